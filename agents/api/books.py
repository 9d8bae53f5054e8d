"""What the ledger answered to orders, amendments and money that came in, and each account's wallet: out of their topics."""

from __future__ import annotations

import msgspec

from schemas.billing import Outcome, WalletStatus

_outcomes = msgspec.json.Decoder(Outcome)
_wallets = msgspec.json.Decoder(WalletStatus)
#: Outcomes that are kept of an account.
_KEPT = 1000


class Books:
    """The newest outcomes and the newest wallet of each account."""

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[int, Outcome]] = {}
        #: (account, id) -> version at which it was first accepted.
        self._accepted: dict[tuple[str, str], int] = {}
        self._wallets: dict[str, WalletStatus] = {}

    def outcome(self, account: str, version: int) -> Outcome | None:
        """What became of the command at this place of the account's log."""
        return self._outcomes.get(account, {}).get(version)

    def outcomes(self, account: str) -> list[Outcome]:
        """The newest first."""
        return list(reversed(self._outcomes.get(account, {}).values()))

    def first_accepted(self, account: str, identity: str) -> int | None:
        """The version at which the command of this id was accepted first."""
        return self._accepted.get((account, identity))

    def wallet(self, account: str) -> WalletStatus | None:
        """The account's wallet; None while no money ever came in."""
        return self._wallets.get(account)

    def take_outcome(self, value: bytes | None) -> None:
        """One record of the topic `orders`."""
        if value is None:
            return
        outcome = _outcomes.decode(value)
        known = self._outcomes.setdefault(outcome.account, {})
        known[outcome.version] = outcome
        if len(known) > _KEPT:
            del known[next(iter(known))]
        if outcome.accepted:
            self._accepted.setdefault((outcome.account, outcome.id), outcome.version)

    def take_wallet(self, value: bytes | None) -> None:
        """One record of the topic `wallets`."""
        if value is not None:
            wallet = _wallets.decode(value)
            self._wallets[wallet.account] = wallet

"""Alerts: what an account is warned of, decided by the fold (semantics.md, section 7).

An alarm fires at the step that brings its figure to the threshold, and is then silent until the figure has fallen below the
threshold less the hysteresis. Usage alone never lowers a figure. So it is decided before and after every event that may, and at
checkpoints: whatever lies between two such events, the same alarms fire, however the log is cut.

What has fired is state of the day and becomes durable with it, so it is said exactly once. A forecast looks at the clock, and so
only checkpoints decide it; no rate re-arms it, only a larger quota than the one that was foreseen to end.

An account is warned when it begins to owe and when it is locked: the wallet remembers both.

A day is watched until it, or a later day of the account, is settled: nobody is warned of what is long past.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter

from pipeline.account import Account, Drawn
from pipeline.alarms import AlarmKey, Fired
from pipeline.rating import charge_of
from pipeline.wallet import ARREARS
from pipeline.waterfall import Draw
from schemas.alerting import AlertKind, AlertRules
from schemas.catalog import Catalog
from schemas.wire import Alert, QuotaStatus

_DEFAULTS = AlertRules("")


def decide_all(catalog: Catalog, account: Account) -> None:
    """Decide whatever has changed: called before and after an event that may lower a figure."""
    for when, changed in groupby(sorted(account.undecided), itemgetter(0)):
        if is_watched(account, when):
            meters = [meter for _, meter in changed if _is_limited(account, when, meter)]
            decide(catalog, account, when, {meter: account.draw(catalog, when, meter) for meter in meters})
    account.undecided.clear()


def _is_limited(account: Account, when: date, meter: str) -> bool:
    """Whether there is anything to decide: a rule for amounts, or a quota that the rules watch."""
    rules = rules_of(account)
    if meter in rules.amounts or rules.total_amount is not None:
        return True
    return _watches(rules, meter) and bool(account.effective(when, meter))


def decide(catalog: Catalog, account: Account, when: date, drawn: Mapping[str, Drawn]) -> None:
    """Fire and re-arm what the meters that changed say now."""
    if not is_watched(account, when):
        return
    rules = rules_of(account)
    for meter, one in drawn.items():
        if _watches(rules, meter):
            for draw in one.drawdown.draws:
                _decide_quota(account, rules, when, meter, draw)
        if meter in rules.amounts:
            charge = charge_of(catalog, account, when, meter, one)
            _decide_charge(account, rules, when, meter, rules.amounts[meter], charge)
    if rules.total_amount is not None and drawn:
        meters = sorted(account.days[when].by_meter.keys() | drawn.keys())
        all_drawn = {m: drawn[m] if m in drawn else account.draw(catalog, when, m) for m in meters}
        charge = sum((charge_of(catalog, account, when, m, one) for m, one in all_drawn.items()), Decimal(0))
        _decide_charge(account, rules, when, "", rules.total_amount, charge)


def rules_of(account: Account) -> AlertRules:
    """The account's rules, or the defaults."""
    return account.rules or _DEFAULTS


def _watches(rules: AlertRules, meter: str) -> bool:
    """Whether the account is warned of the meter's quotas."""
    return rules.meters is None or meter in rules.meters


def has_amounts(account: Account) -> bool:
    """Whether the account is warned of what its use costs."""
    rules = rules_of(account)
    return bool(rules.amounts) or rules.total_amount is not None


def is_watched(account: Account, when: date) -> bool:
    """Whether alerts are decided for the day."""
    return not any(day.revision for later, day in account.days.items() if later >= when)


def reconsider(catalog: Catalog, account: Account) -> None:
    """Rules changed: every meter of every watched day is decided anew."""
    for when, day in list(account.days.items()):
        if is_watched(account, when):
            for meter in day.by_meter.keys() | day.published.keys():
                account.touch(catalog, when, meter)


def _decide_quota(account: Account, rules: AlertRules, when: date, meter: str, draw: Draw) -> None:
    """A quota of 0 cannot be used up. Shares have few digits, so that the products are exact."""
    if not draw.quota:
        return
    alarms, package = account.days[when].alarms, draw.package.package
    for threshold in rules.thresholds:
        reached = draw.used >= threshold * draw.quota
        if reached or alarms:
            key: AlarmKey = ("threshold", meter, package, _text(threshold))
            if alarms.level(key) is not None and draw.used < (threshold - rules.hysteresis) * draw.quota:
                alarms.rearm(key)
            if reached and alarms.level(key) is None:
                firing = alarms.fire(key, threshold)
                account.fired.append(Fired(key, when, firing, account.version, draw.used, draw.quota))
    forecast = _forecast_key(meter, package)
    foreseen_of = alarms.level(forecast)
    if foreseen_of is not None and draw.quota > foreseen_of:
        alarms.rearm(forecast)


def _decide_charge(
    account: Account, rules: AlertRules, when: date, meter: str, limit: Decimal, charge: Decimal
) -> None:
    alarms = account.days[when].alarms
    key: AlarmKey = ("high_consumption", meter, "", _text(limit))
    if alarms.level(key) is not None and charge < limit * (1 - rules.hysteresis):
        alarms.rearm(key)
    if charge > limit and alarms.level(key) is None:
        account.fired.append(Fired(key, when, alarms.fire(key, limit), account.version, amount=charge))


def foresee(account: Account, status: QuotaStatus) -> None:
    """The quota ends before its day does, if the last minutes go on: said once, with the minute."""
    rules, when = rules_of(account), status.day
    if status.exhausts_at is None or not rules.forecast or not is_watched(account, when):
        return
    alarms, key = account.days[when].alarms, _forecast_key(status.meter, status.package)
    if _watches(rules, status.meter) and alarms.level(key) is None:
        minute = status.exhausts_at.replace(second=0, microsecond=0)
        firing = alarms.fire(key, Decimal(status.quota))
        account.fired.append(Fired(key, when, firing, account.version, status.used, status.quota, minute))


def warn_of_debt(account: Account, owed_since: date | None) -> None:
    """The account began to owe with this event, if it does not owe since `owed_since`, as before: said once for each debt."""
    wallet, since = account.wallet, account.wallet.owes_since
    if since is not None and since != owed_since:
        firing = wallet.fell[1] + 1 if wallet.fell is not None and wallet.fell[0] == since else 1
        wallet.fell = since, firing
        _say_debt(account, "arrears", since, firing)


def warn_of_lock(account: Account, when: date) -> None:
    """The account was locked that day; no two debts end their buffer on the same."""
    _say_debt(account, "locked", when, 1)


def _say_debt(account: Account, kind: AlertKind, when: date, firing: int) -> None:
    debt = -account.wallet.balance(ARREARS)
    account.fired.append(Fired((kind, "", "", ""), when, firing, account.version, amount=debt))


def _forecast_key(meter: str, package: str) -> AlarmKey:
    return ("forecast", meter, package, "")


def _text(number: Decimal) -> str:
    """The same text for 0.8 and 0.80."""
    return f"{number.normalize():f}"


def alerts_of(account: Account, at: datetime) -> Iterator[Alert]:
    """What fired since the account last spoke. An id is a function of what it is about and the number of the firing."""
    for fired in account.fired:
        kind, meter, package, threshold = fired.key
        identity = "\0".join((account.account, str(fired.day), *fired.key, str(fired.firing)))
        yield Alert(
            id=blake2b(identity.encode(), digest_size=16).hexdigest(),
            account=account.account, day=fired.day, kind=kind, meter=meter, package=package or None,
            threshold=Decimal(threshold) if threshold else None, value=fired.value, quota=fired.quota,
            version=fired.version, at=at, firing=fired.firing, exhausts_at=fired.exhausts_at, amount=fired.amount,
            currency=None if fired.amount is None else account.currency,
        )  # fmt: skip
    account.fired.clear()

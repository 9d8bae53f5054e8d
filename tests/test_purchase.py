"""The purchase flow on the command line, on a real worker: bind, fund, buy, use, upgrade, share, end."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agents.cli import main
from agents.commands import Refused, encoded
from agents.errors import WrongUse
from agents.purchases import Known
from agents.statements import COLUMNS, Month
from conftest import Meter
from pipeline.account import Account
from schemas.billing import Amendment, Funded, Order
from schemas.catalog import load_catalog
from world import binding, event


class Shop:
    """The command line of a running meter."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """A command as a user types it, in this process: exit code, output, errors."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.meter.env.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["drawdown", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        return int(ended.value.code or 0), out.getvalue(), err.getvalue()

    def ask(self, *arguments: str) -> Any:
        """What the command says as JSON."""
        code, output, errors = self.run(*arguments, "--json")
        assert code == 0, errors
        return json.loads(output)

    def refused(self, *arguments: str) -> str:
        """What a refused command says; one line a fault, and no traceback."""
        code, output, errors = self.run(*arguments)
        assert code in (1, 2), output
        assert "Traceback" not in errors
        return errors


@pytest.fixture
def shop(meter: Meter) -> Shop:
    """Workspaces A and B of an account, bound on the command line, and a worker."""
    meter.start_worker(DRAWDOWN_SETTLEMENT_GRACE="0.001")
    one = Shop(meter)
    one.ask("workspace", "bind", "A", "--account", "acct", "--title", "Shop")
    one.ask("workspace", "bind", "B", "--account", "acct", "--plan", "free")
    return one


def test_the_six_steps(shop: Shop) -> None:
    """Bind, upgrade to Commercial, fund, choose plan, traffic and workspaces in order, pay; then use, upgrade, share and end."""
    assert "--time-zone" in shop.refused("workspace", "bind", "B", "--account", "acct", "--time-zone", "Mars/Olympus")
    buy = (
        "package",
        "buy",
        "acct",
        "--plan",
        "startup",
        "--workspace",
        "A",
        "--workspace",
        "B",
        "--id",
        "o-1",
        "--yes",
    )
    assert "not_commercial" in shop.refused(*buy)
    shop.ask("workspace", "bind", "B", "--account", "acct", "--plan", "commercial")
    shop.meter.documents([binding("0", "acct", "Mars/Olympus")], [])  # the workers refuse it
    assert [b["plan"] for b in shop.ask("workspace", "list", "acct")] == ["commercial", "commercial"]
    for days in (14, 7):
        bound = shop.ask("workspace", "bind", "A", "--account", "acct", "--retention", f"page_views={days}")
    assert bound["retention_days"] == {"page_views": 7}
    assert [past["days"] for past in bound["retention_before"]["page_views"]] == [7, 14]
    assert "no tier" in shop.refused("workspace", "bind", "A", "--account", "acct", "--retention", "logs=5")
    assert "unknown_pocket" in shop.refused(*buy)
    shop.ask("wallet", "fund", "acct", "cash", "600000", "--yes")
    shop.ask("wallet", "fund", "acct", "card:c1", "100", "--yes")
    assert "not_in_hundreds" in shop.refused("wallet", "fund", "acct", "card:c2", "150", "--yes")
    priced = (*buy, "--traffic", "logs=30", "--pay", "card:c1=100", "--pay", "cash=55292")
    bought = shop.ask(*priced)
    assert [p["package"] for p in bought["packages"]] == ["o-1", "o-1.logs"]
    assert shop.ask(*priced)["accepted"], "the same order is the same order"
    shop.ask("workspace", "bind", "C", "--account", "other")
    theirs = ("package", "buy", "other", "--plan", "startup", "--workspace", "C", "--id", "o-1", "--yes")
    assert "another account has a package 'o-1'" in shop.refused(*theirs)
    now = datetime.now(UTC)
    values = [(w.encode(), json.dumps(event(w, "logs", 60_000_000, w, now)).encode()) for w in "AB"]
    shop.meter.send("usage", values)

    def overage() -> dict[str, int]:
        return dict(shop.meter.rows("SELECT workspace, quantity FROM overage WHERE basis = 'package' AND quantity > 0"))

    shop.meter.wait(lambda: overage() == {"B": 50_000_000}, "B is over by 50 million")
    shop.ask("package", "share", "acct", "o-1.logs", "--workspace", "B", "--workspace", "A", "--id", "s-1", "--yes")
    shop.meter.wait(
        lambda: overage() == {"A": 20_000_000, "B": 30_000_000}, "first the plan, then the traffic in its order"
    )
    shop.ask("package", "upgrade", "acct", "o-1", "--plan", "development", "--id", "u-1", "--yes")
    shop.meter.wait(lambda: overage() == {}, "the larger plan covers both")
    listed = {p["package"]: p for p in shop.ask("package", "list", "acct")}
    assert {name for name, p in listed.items() if p["status"] == "active"} == {"u-1", "s-1"}
    shop.ask("package", "end", "acct", "u-1", "--yes")
    shop.meter.wait(
        lambda: shop.meter.rows("SELECT sum(quantity) FROM overage WHERE basis = 'payg'") == [(120_000_000,)],
        "pay as you go",
    )
    wallet = shop.ask("wallet", "show", "acct")
    assert {name: Decimal(amount) for name, amount in wallet["balances"].items() if Decimal(amount)} == {
        "cash": Decimal(600_000 - 55_292 - 238_000)
    }
    assert all(sum(map(Decimal, t["postings"].values())) == 0 for t in wallet["transactions"])


def test_a_settled_day_is_paid_and_a_late_event_moves_the_difference(shop: Shop, tmp_path: Path) -> None:
    """Statement revision 2, and the wallet moves by exactly the difference."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    shop.ask("wallet", "fund", "acct", "cash", "100", "--yes")
    sql = "SELECT balances['cash'] FROM wallets"
    for identity, quantity, left in (("1", 20_000_000, "70"), ("2", 1_000_000, "68.5")):
        shop.meter.send("usage", [(b"A", json.dumps(event("A", "logs", quantity, identity, yesterday)).encode())])
        shop.meter.wait(lambda left=left: shop.meter.rows(sql) == [(Decimal(left),)], f"{left} are left")  # type: ignore[misc]
    revisions = "SELECT revision, amount FROM statements FINAL ORDER BY revision"
    shop.meter.wait(lambda: shop.meter.rows(revisions) == [(1, Decimal(30)), (2, Decimal("31.5"))], "both revisions")
    month = shop.ask("statements", "acct", "--month", f"{yesterday:%Y-%m}", "--csv", str(tmp_path / "lines.csv"))
    assert (Decimal(month["amount"]), [d["revision"] for d in month["days"]]) == (Decimal("31.5"), [2])
    (line,) = csv.DictReader((tmp_path / "lines.csv").open())
    assert (line["workspace"], line["meter"], line["quantity"], Decimal(line["amount"])) == (
        "A",
        "logs",
        "21000000",
        Decimal("31.5"),
    )


@pytest.mark.parametrize("more", [{"workspaces": ("",)}, {"id": "x" * 257}])
def test_what_the_ledger_could_not_read_is_refused_before_it_is_written(more: dict[str, Any]) -> None:
    """The account's log is our own topic: a value there that cannot be read stops the worker."""
    at = datetime.now(UTC)
    fields = {"id": "o", "workspaces": ("A",), "plan": "startup"} | more
    order = Order(account="a", effective=at.date(), price=Decimal(1), payment={}, operator="kim", at=at, **fields)
    with pytest.raises(Refused):
        encoded(order)


def test_the_package_of_another_account_is_not_made_anew() -> None:
    """Names of packages are keys of a topic: an order's own, its traffic's, an amendment's; an order of traffic alone makes no plan."""
    at = datetime.now(UTC)
    known = Known(load_catalog(), Account("a"), frozenset({"o", "s.logs"}), at)

    def order(identity: str, **more: Any) -> Order:
        return Order("a", identity, at.date(), Decimal(1), {}, "kim", at, **more)

    for command in (order("o", plan="startup"), order("s", package="p", traffic={"logs": 1}),
                    Amendment("a", "o", "p", ("w",), at.date(), "kim", at)):  # fmt: skip
        with pytest.raises(WrongUse, match="another account"):
            known.require_own_names(command)
    known.require_own_names(order("o", package="p", traffic={"logs": 1}))
    known.require_own_names(Amendment("a", "o", "p", (), at.date(), "kim", at))
    known.require_own_names(Funded("a", "o", "cash", Decimal(1), "kim", at))


def test_a_name_is_no_formula_in_a_spreadsheet() -> None:
    """Names that begin like one are text; numbers, negative ones too, stay numbers."""
    line = dict.fromkeys(COLUMNS, "") | {"workspace": "=1+1", "meter": "@m", "basis": "payg", "amount": Decimal("-1.5")}
    text = io.StringIO()
    Month("a", datetime.now(UTC).date(), [], [line]).write_csv(text)
    (read,) = csv.DictReader(io.StringIO(text.getvalue()))
    assert [read[name] for name in ("workspace", "meter", "basis", "amount")] == ["'=1+1", "'@m", "payg", "-1.5"]

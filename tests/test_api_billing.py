"""The billing center by HTTP, on a real worker: quotes, orders, amendments, wallet, statements."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from msgspec import structs

from agents.api import billing
from agents.api.feed import Feed
from agents.api.ingest import Writer
from agents.api.packages import Packages
from agents.api.problems import Problem
from agents.api.routes_billing import identity_of
from agents.settings import Settings
from conftest import Meter
from schemas.billing import Amendment, Funded, Order
from schemas.catalog import load_catalog
from served import Served, X, Y, now, path
from world import binding, event, package

PROBLEM = "application/problem+json"
#: Startup with 30 million logs of traffic: 42,000 + 30 x 1.5 x 80 % x 372 days.
PRICE = "55392.00"


class Shop:
    """An account of a test's own, with workspaces `<account>-a` and `-b` (Commercial) and `-f` (Free)."""

    def __init__(self, client: httpx.Client, account: str, cash: str | None = "100000") -> None:
        self.client, self.account = client, account
        self.a, self.b, self.f = (f"{account}-{name}" for name in "abf")
        for workspace, plan in ((self.a, "commercial"), (self.b, "commercial"), (self.f, "free")):
            client.post("/v1/workspaces", json=binding(workspace, account, plan=plan)).raise_for_status()
        if cash:
            self.post("wallet/deposits", pocket="cash", amount=cash, id=f"{account}-cash").raise_for_status()

    def post(self, rest: str, **body: Any) -> httpx.Response:
        """A request under the account."""
        return self.client.post(path(self.account, rest), json=body)

    def get(self, rest: str) -> Any:
        """What is there."""
        return self.client.get(path(self.account, rest)).raise_for_status().json()

    def order(self, **more: Any) -> dict[str, Any]:
        """Startup with traffic for both, paid in cash."""
        plan = {
            "id": f"{self.account}-1",
            "plan": "startup",
            "workspaces": [self.a, self.b],
            "traffic": {"logs": 30},
            "price": PRICE,
        }
        return plan | {"payment": {"cash": more.get("price", PRICE)}} | more  # fmt: skip

    def balances(self) -> dict[str, str]:
        """What is in the pockets."""
        return {pocket["pocket"]: pocket["balance"] for pocket in self.get("wallet")["pockets"]}


def codes(answer: httpx.Response) -> list[str]:
    """The codes of a refusal."""
    assert answer.headers["content-type"] == PROBLEM
    return sorted(error["code"] for error in answer.json()["errors"])


def test_an_order_is_seen_at_once_and_placed_once(served: Served) -> None:
    """201, then 200 for the same again, 409 for another content; package and wallet are there with the answer."""
    with served.client() as client:
        shop = Shop(client, "once")
        quoted = shop.post("orders/quote", plan="startup", workspaces=[shop.a, shop.b], traffic={"logs": 30}).json()
        assert (quoted["price"], quoted["currency"], quoted["faults"]) == (PRICE, "CNY", [])
        assert [p["kind"] for p in quoted["packages"]] == ["plan", "traffic"]
        placed = shop.post("orders", **shop.order())
        assert placed.status_code == 201, placed.text
        plan, traffic = shop.get("packages")["packages"]
        assert shop.balances() == {"cash": "44608"}
        again = shop.post("orders", **shop.order(price="55392"))
        other = shop.post("orders", **shop.order(workspaces=[shop.b, shop.a]))
        by_header = client.post(
            path(shop.account, "orders"), json=shop.order(id=None), headers={"Idempotency-Key": "once-1"}
        )
        assert (again.status_code, by_header.status_code, other.status_code) == (200, 200, 409)
        assert again.json()["packages"] == placed.json()["packages"]
        assert "conflicting_id" in codes(other)
        assert shop.balances() == {"cash": "44608"}
        stranger = Shop(client, "twice")
        names = [stranger.order(id="once-1"), stranger.order(id="once-1", plan=None, package="x", workspaces=[])]
        assert [stranger.post("orders", **body).status_code for body in names] == [409, 409]
        document = package("once-1", "once", [shop.a], {"logs": 1}, now())
        documents = [document, document | {"account": "twice"}, document | {"package": "once-9", "order": "once-9"}]
        assert [client.post("/v1/packages", json=one).status_code for one in documents] == [409, 409, 409]
        assert shop.get("packages")["packages"] == [plan, traffic]
        outcomes = shop.get("orders?id=once-1")["orders"]
    # The order may overtake the bindings on their way to the ledger: that refusal is there, too, and it was asked again.
    overtook = [o for o in outcomes if "not_bound" in {fault["code"] for fault in o["faults"]}]
    assert [o["accepted"] for o in outcomes if o not in overtook] == [True, False, True, True]
    assert (plan["package"], plan["plan_name"], plan["workspaces"], plan["days_left"], plan["state"]) == (
        "once-1", "Startup Acceleration", [shop.a, shop.b], 372, "active",
    )  # fmt: skip
    assert (traffic["belongs_to"], traffic["quotas"][0]["quota"], traffic["changeable"]) == ("once-1", 30_000_000, True)


def test_a_refusal_says_everything_at_once(served: Served) -> None:
    """By quote and by order alike; nothing has changed."""
    with served.client() as client:
        shop = Shop(client, "refused", "10")
        wrong = {"plan": "startup", "workspaces": [shop.a, shop.a, shop.f, "xa"], "traffic": {"tea": 1},
                 "payment": {"cash": "41000", "card:c": "1"}}  # fmt: skip
        quoted = shop.post("orders/quote", **wrong).json()
        refused = shop.post("orders", id="refused-1", price="42000", **wrong)
        expected = sorted(["duplicate_workspace", "not_commercial", "not_bound", "unknown_traffic", "balance_too_small",
                           "unknown_pocket", "payment_differs"])  # fmt: skip
        assert sorted(fault["code"] for fault in quoted["faults"]) == expected
        assert refused.status_code == 422
        assert codes(refused) == expected
        at = {error["code"]: error["at"] for error in refused.json()["errors"]}
        assert (at["not_commercial"], at["balance_too_small"]) == ("$.workspaces", "$.payment.cash")
        price = shop.post("orders", **shop.order(price="1", payment={"cash": "1"}))
        assert codes(price) == ["wrong_price"]
        assert (shop.get("packages")["packages"], shop.balances()) == ([], {"cash": "10"})


@pytest.mark.parametrize(
    ("rest", "body", "at"),
    [
        ("orders", {"price": "1.005"}, "body.price"),
        ("orders", {"price": "1", "workspaces": [""]}, "body.workspaces.0"),
        ("orders", {"price": "1", "tea": 1}, "body.tea"),
        ("orders", {"price": "1", "traffic": {"logs": 10**30}}, "body.traffic.logs"),
        ("orders", {"price": "NaN"}, "body.price"),
        ("wallet/deposits", {"pocket": "cash", "amount": "1e99"}, "body.amount"),
        ("wallet/deposits", {"pocket": "", "amount": "1"}, "body.pocket"),
        ("orders/quote", {"effective": "tomorrow"}, "body.effective"),
        ("orders", {"price": "1"}, "body.id"),
        ("wallet/deposits", {"pocket": "cash", "amount": "1"}, "body.id"),
        ("packages/px/amendments", {"end": True}, "body.id"),
    ],
)
def test_what_is_no_command_never_reaches_the_log(served: Served, rest: str, body: dict[str, Any], at: str) -> None:
    """422 that names the place; and the worker goes on."""
    with served.client("x") as client:
        answer = client.post(path(X, rest), json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert at in [error["at"] for error in answer.json()["errors"]]


def test_an_order_right_after_a_binding_waits_for_the_ledger(served: Served) -> None:
    """The registry has acknowledged the upgrade to Commercial, so the order is not refused because the ledger is a moment behind."""
    with served.client() as client:
        shop = Shop(client, "eager")
        client.post("/v1/workspaces", json=binding(shop.f, "eager", plan="commercial")).raise_for_status()
        placed = shop.post("orders", **shop.order(workspaces=[shop.f], traffic={}, price="42000"))
    assert placed.status_code == 201, placed.text


def test_packages_are_upgraded_shared_and_ended(served: Served) -> None:
    """By the routes of the contract and those under the account; replicas see it, and a package of others is none."""
    with served.client() as client, served.client("y") as stranger:
        shop = Shop(client, "manager", "800000")
        client.post("/v1/orders", json=shop.order(traffic={}, price="42000.00", account="manager")).raise_for_status()
        swapped = shop.post("packages/manager-1/amendments", id="manager-2", workspaces=[shop.b, shop.a])
        assert swapped.status_code == 201, swapped.text
        after = {p["package"]: p for p in shop.get("packages")["packages"]}
        assert (after["manager-1"]["state"], after["manager-2"]["workspaces"]) == ("ended", [shop.b, shop.a])
        price = shop.post("orders/quote", package="manager-2", plan="development").json()["price"]
        assert price == "238000.00"
        upgrade = {"id": "manager-3", "plan": "development", "price": price, "payment": {"cash": price}}
        assert stranger.post("/v1/packages/manager-2/upgrade", json=upgrade).status_code == 404
        assert stranger.post("/v1/packages/nothing/upgrade", json=upgrade).status_code == 404
        assert client.post("/v1/packages/manager-2/upgrade", json=upgrade).status_code == 201
        traffic = {"id": "manager-4", "traffic": {"sms": 1}, "price": "3720", "payment": {"cash": "3720"}}
        assert client.post("/v1/packages/manager-3/traffic", json=traffic).status_code == 201
        before = {p["package"]: p["state"] for p in shop.get("packages")["packages"]}
        assert [name for name, state in before.items() if state == "active"] == ["manager-3", "manager-4.sms"]
        assert shop.post("packages/manager-3/amendments", workspaces=[shop.a], end=True).status_code == 422
        assert shop.post("packages/px/amendments", end=True).status_code == 404
        assert shop.post("packages/manager-3/amendments", end=True, id="manager-5").status_code == 201
        assert {p["state"] for p in shop.get("packages")["packages"]} == {"ended"}
        assert shop.balances() == {"cash": str(800000 - 42000 - 238000 - 3720)}


def test_the_wallet_keeps_its_books(served: Served) -> None:
    """Pockets with their terms; entries that sum to zero; refused money; once by its id, also at the same time."""
    with served.client() as client:
        shop = Shop(client, "books", None)
        assert shop.get("wallet") == {"account": "books", "currency": "CNY", "pockets": [], "owes": "0", "owes_since": None,
                                      "locked": False, "version": None, "entries": []}  # fmt: skip
        deposits = [{"pocket": "cash", "amount": "0.5", "id": "m1"}] * 4
        deposits += [{"pocket": "card:c", "amount": "200", "id": "m2", "expires": "2149-01-01"}]
        deposits += [{"pocket": "threshold:t", "amount": "30", "threshold": "100", "id": "m3"}]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda body: shop.post("wallet/deposits", **body).status_code, deposits))
        assert sorted(answers) == [200, 200, 200, 201, 201, 201]
        assert codes(shop.post("wallet/deposits", pocket="card:d", amount="150", id="m4")) == ["not_in_hundreds"]
        assert codes(shop.post("wallet/deposits", pocket="tea", amount="1", id="m5")) == ["unknown_pocket"]
        assert shop.post("wallet/deposits", pocket="cash", amount="5", id="m1").status_code == 409
        served.meter.wait(lambda: len(shop.get("wallet")["entries"]) == 3, "three entries")
        wallet = shop.get("wallet")
    assert [(p["pocket"], p["balance"], p["expires"], p["threshold"]) for p in wallet["pockets"]] == [
        ("cash", "0.5", None, None), ("card:c", "200", "2149-01-01", None), ("threshold:t", "30", None, "100"),
    ]  # fmt: skip
    assert {entry["reference"] for entry in wallet["entries"]} == {"m1", "m2", "m3"}
    for entry in wallet["entries"]:
        assert sum(Decimal(posting["amount"]) for posting in entry["postings"]) == 0


def test_statements_of_a_month_with_revisions_and_csv(served: Served) -> None:
    """A day of long ago is settled at once; a late event revises it, and the wallet moves by the difference."""
    then = now() - timedelta(days=8)
    with served.client() as client:
        shop = Shop(client, "stated", "100")
        month = f"statements?month={then:%Y-%m}"
        for number, (quantity, left) in enumerate(((20_000_000, "70"), (1_000_000, "68.5"))):
            client.post("/v1/events", json=event(shop.a, "logs", quantity, f"stated{number}", then)).raise_for_status()
            served.meter.wait(lambda left=left: shop.balances() == {"cash": left}, f"{left} are left")  # type: ignore[misc]
        served.meter.wait(lambda: [d["revision"] for d in shop.get(month)["days"]] == [2], "the second revision")
        found, both = shop.get(month), shop.get(f"statements/{then.date()}/revisions")["statements"]
        table = client.get(path("stated", f"statements.csv?month={then:%Y-%m}"))
        empty = client.get(path("stated", "statements.csv?month=1999-12"))
        served.meter.wait(lambda: len(shop.get("wallet")["entries"]) == 3, "the entries")
        entry = shop.get("wallet")["entries"][0]
    assert (found["amount"], found["days"][0]["amount"], found["days"][0]["lines"]) == ("31.5", "31.5", 1)
    assert [(s["revision"], s["replaces"], s["amount"]) for s in both] == [(2, 1, "31.5"), (1, None, "30")]
    assert table.headers["content-type"].startswith("text/csv")
    (line,) = csv.DictReader(io.StringIO(table.text))
    assert (line["workspace"], line["quantity"], Decimal(line["amount"])) == (shop.a, "21000000", Decimal("31.5"))
    assert empty.text.splitlines() == [",".join(line)]
    assert entry["reference"] == f"{then.date()}/2"
    assert {p["account"]: p["amount"] for p in entry["postings"]} == {"cash": "-1.5", "usage": "1.5"}


def test_keys_and_documents(served: Served) -> None:
    """What a key may do; what belongs to others is not there; the catalog has what the buy page shows; examples are valid."""
    with served.client("reader") as reader, served.client("x") as x, served.client() as client:
        key = reader.get("/v1/key").json()
        assert (key["accounts"], key["scopes"]) == ([X], ["read"])
        assert reader.post(path(X, "orders/quote"), json={}).status_code == 403
        assert x.post("/v1/orders", json={"account": Y, "price": "1"}).status_code == 404
        logs = next(t for t in reader.get("/v1/catalog").json()["traffic"] if t["traffic"] == "logs")
        assert logs["rates"] == {"30": "0.8"}
        shop = Shop(client, "acct-1", "900000")
        client.post("/v1/workspaces", json=binding("ws-a", "acct-1")).raise_for_status()
        client.post("/v1/workspaces", json=binding("ws-b", "acct-1")).raise_for_status()
        paths = httpx.get(f"{served.url}/openapi.json", timeout=20).json()["paths"]
        values = {"account": "acct-1", "package": "order-1"}
        for rest in ("wallet/deposits", "orders/quote", "orders", "packages/{package}/amendments"):
            route = f"/v1/accounts/{{account}}/{rest}"
            example = paths[route]["post"]["requestBody"]["content"]["application/json"]["example"]
            answer = client.post(route.format(**values), json=example)
            assert answer.status_code in {200, 201}, (route, answer.text)
        assert shop.get("packages")["packages"][0]["workspaces"] == ["ws-b", "ws-a"]
    assert json.dumps(paths).count("Idempotency-Key") >= 4


def of_topic(name: str, account: str, **more: Any) -> bytes:
    """A package as its topic has it."""
    return json.dumps(package(name, account, ["w"], {"logs": 1}, now(), **more)).encode()


async def test_what_would_make_the_package_of_another_account_is_not_written() -> None:
    """Names of packages are keys of a topic: those of an order, of its traffic, of an amendment. Nothing is sent."""
    packages = Packages(load_catalog())
    for name in ("o-1", "o-2.logs"):
        packages.take(None, of_topic(name, "theirs", order="o"))
    settings = Settings()
    center = billing.BillingCenter(load_catalog(), Writer(settings), Feed(settings, packages))
    at = now()

    def order(identity: str, **more: Any) -> Order:
        return Order("ours", identity, at.date(), Decimal(1), {}, "kim", at, **more)

    for one in (order("o-1", plan="startup"), order("o-2", package="p", traffic={"logs": 1})):
        with pytest.raises(Problem, match="taken") as refused:
            await center.order(lambda: pytest.fail("it was judged"), one)
        assert refused.value.status_code == 409
    with pytest.raises(Problem, match="taken"):
        await center.amend(
            lambda: pytest.fail("it was judged"), Amendment("ours", "o-1", "p", ("w",), at.date(), "kim", at)
        )


def test_a_command_has_an_id_and_an_ordered_package_no_document() -> None:
    """Without an id, a repetition would be another command; what an order made is changed by orders alone."""
    assert [identity_of("a", None), identity_of(None, "a"), identity_of("a", "a")] == ["a"] * 3
    for given, header in ((None, None), ("a", "b")):
        with pytest.raises(Problem) as refused:
            identity_of(given, header)
        assert (refused.value.status_code, refused.value.errors[0].at) == (422, "body.id")
    packages = Packages(load_catalog())
    for value in (of_topic("o", "acct", order="o"), of_topic("o", "acct", price="1.00"), of_topic("d", "acct")):
        packages.take(None, value)
    ordered, sold = packages.get("o"), packages.get("d")
    assert ordered is not None
    assert sold is not None
    assert ordered.order == "o"
    stranger = structs.replace(sold, account="other")
    assert [packages.conflict(one) is None for one in (sold, stranger, ordered, structs.replace(ordered, order=None),
                                                       structs.replace(ordered, package="new"))] == [True] + [False] * 4  # fmt: skip


async def test_without_an_answer_the_same_command_is_sent_again(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 while no worker runs. Asked again until one does, all of it was one deposit."""
    monkeypatch.setattr(billing, "_ANSWER_SECONDS", 1.0)
    catalog = load_catalog()
    feed, writer = Feed(meter.settings, Packages(catalog)), Writer(meter.settings)
    center, reading = billing.BillingCenter(catalog, writer, feed), asyncio.create_task(feed.run())
    await feed.caught_up.wait()

    def deposit() -> Funded:
        return Funded("late", "d-1", "cash", Decimal(100), "kim", datetime.now(UTC))

    with pytest.raises(Problem) as refused:
        await center.fund(deposit())
    assert (refused.value.status_code, "'d-1' is safe" in refused.value.detail) == (503, True)
    meter.start_worker()
    monkeypatch.setattr(billing, "_ANSWER_SECONDS", 60.0)
    answer = await center.fund(deposit())
    wallet = feed.books.wallet("late")
    assert wallet is not None
    assert (answer.outcome.accepted, answer.new, wallet.balances["cash"]) == (True, False, Decimal(100))
    reading.cancel()
    await writer.close()

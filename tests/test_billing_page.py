"""The billing center's page in a real browser, on the real API, worker, Kafka and ClickHouse."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from served import Served, now
from world import binding, event

PRICE = Decimal(55392)
Open = Callable[..., Page]


@pytest.fixture
def open_page(served: Served, browser: Browser) -> Iterator[Open]:
    """Opens a view of an account; a page that complains in its console fails the test."""
    complaints: list[str] = []
    with ExitStack() as stack:

        def opened(account: str, view: str, key: str = "all", **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}} | options)
            stack.callback(context.close)
            page = context.new_page()
            page.on(
                "console",
                lambda m: complaints.append(m.text) if m.type == "warning" and "preload" not in m.text else None,
            )
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(f"{served.url}/#key={served.keys[key]}&account={account}&view={view}")
            page.wait_for_selector("#billing-view > *")
            return page

        yield opened
    assert not complaints


def shop(client: httpx.Client, account: str, cash: str = "100000") -> tuple[str, str, str]:
    """An account with two workspaces on the Commercial Plan and one on the Free plan, and cash; their names."""
    names = (f"{account}-a", f"{account}-b", f"{account}-f")
    for name in names:
        plan = "free" if name.endswith("f") else "commercial"
        client.post("/v1/workspaces", json=binding(name, account, plan=plan)).raise_for_status()
    deposit(client, account, pocket="cash", amount=cash)
    return names


def deposit(client: httpx.Client, account: str, **body: str) -> None:
    """Money comes in, once for each pocket."""
    body = {"id": f"{account}-{body['pocket']}"} | body
    client.post(f"/v1/accounts/{account}/wallet/deposits", json=body).raise_for_status()


def balances(client: httpx.Client, account: str) -> dict[str, Decimal]:
    """What is in the pockets."""
    pockets = client.get(f"/v1/accounts/{account}/wallet").json()["pockets"]
    return {pocket["pocket"]: Decimal(pocket["balance"]) for pocket in pockets}


def active(client: httpx.Client, account: str) -> list[dict[str, Any]]:
    """The packages that cover today."""
    found = client.get(f"/v1/accounts/{account}/packages").json()["packages"]
    return [package for package in found if package["state"] == "active"]


def eventually(page: Page, check: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait while the page goes on."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            pytest.fail(f"not reached in {seconds} s: {what}; page: {page.inner_text('body')[:2000]}")
        page.wait_for_timeout(50)


def onward(page: Page, title: str) -> None:
    """The next step."""
    page.wait_for_selector("#buy-next:not(:disabled)").click()
    eventually(page, lambda: page.inner_text("#buy-title") == title, title)


def order_shown(page: Page, inside: str = "") -> list[str]:
    """The workspaces in the order that is being made."""
    return page.eval_on_selector_all(f"{inside} .sharing li", "all => all.map(row => row.dataset.workspace)")


def drag(page: Page, workspace: str, onto: str) -> None:
    """With the mouse, by the handle."""
    handle = page.locator(f'.sharing [data-workspace="{workspace}"] .handle').bounding_box()
    target = page.locator(f'.sharing [data-workspace="{onto}"]').bounding_box()
    assert handle
    assert target
    page.mouse.move(handle["x"] + 5, handle["y"] + 5)
    page.mouse.down()
    page.mouse.move(target["x"] + 5, target["y"] + 20, steps=4)
    page.mouse.move(target["x"] + 5, target["y"] + 2, steps=2)
    page.mouse.up()


def choose(page: Page, a: str, b: str, f: str) -> None:
    """Steps 1 to 3: Startup with traffic for a, f, b in this order; f is upgraded to the Commercial Plan."""
    page.wait_for_selector("[data-plan=startup]").click()
    onward(page, "Traffic packages")
    page.fill("[data-traffic=logs] input", "30")
    eventually(page, lambda: page.inner_text("#buy-total") == "55,392.00 CNY", "the live price with its discount")
    onward(page, "Workspaces in order")
    assert page.is_disabled("#buy-next")
    for name in (b, a):
        page.click(f'.others [data-workspace="{name}"] .button')
    page.click(f'.others [data-workspace="{f}"] .button')  # upgrades it
    page.wait_for_selector(f'.others [data-workspace="{f}"] .button:text-is("Add")').click()
    page.focus(f'.sharing [data-workspace="{a}"] [aria-label^="Move"][aria-label$="up"]')
    page.keyboard.press("Enter")
    assert order_shown(page) == [a, b, f]
    drag(page, f, b)
    assert order_shown(page) == [a, f, b]


def test_amounts_are_exact_and_faults_are_words(open_page: Open) -> None:
    """The pure modules of the page, in the browser that runs them."""
    found = open_page("", "packages").evaluate("""async () => {
        const n = await import("/assets/js/numbers.js");
        const w = await import("/assets/js/billing/words.js");
        const fault = (code, at, message) => w.faultWords({ code, at, message });
        const moved = (reference, ...all) => {
            const entry = w.entryWords({ reference, postings: all.map(([account, amount]) => ({ account, amount })) });
            return [entry.title, entry.pockets, entry.sum];
        };
        return {
            minus: [n.minus("0.3", "0.1"), n.minus("1", "1000000000000000000.01")],
            signs: ["-0.01", "0.00", "3"].map(n.signOf),
            typed: ["1,234.5", " 7 ", "1.005", "-1", "1e3", ""].map(n.amountOf),
            shares: [n.ratio("42000", "72168"), n.dividedBy("42000", 372).slice(0, 8)],
            faults: [
                fault("balance_too_small", "$.payment.card:c.1", "41000 is usable"),
                fault("not_bound", "$.workspaces", "'x' is not bound to 'y'"),
            ],
            moved: [
                moved("2026-11-23/2", ["usage", "1.5"], ["cash", "-1.5"]),
                moved("o-1", ["packages", "3"], ["cash", "-1"], ["card:c", "-2"]),
            ],
        };
    }""")
    assert found == {
        "minus": ["0.2", "-999999999999999999.01"],
        "signs": [-1, 0, 1],
        "typed": ["1234.5", "7", None, None, None, None],
        "shares": ["58.1%", "112.9032"],
        "faults": ["Prepaid card c.1: only 41,000.00 can be spent.", "x is not bound to y."],
        "moved": [
            ["Usage of 23 Nov 2026, revision 2", "Cash", "-1.5"],
            ["Packages bought", "Cash −1.00, Prepaid card c −2.00", "-3"],
        ],
    }


def test_a_package_is_bought_in_six_steps(served: Served, open_page: Open) -> None:
    """Plan, traffic, workspaces in order (mouse and keyboard), confirm, pay from two pockets, done: package and wallet agree."""
    with served.client() as client:
        a, b, f = shop(client, "buyer")
        deposit(client, "buyer", pocket="card:c1", amount="200")
        page = open_page("buyer", "buy")
        client.post("/v1/workspaces", json=binding(f, "buyer", plan="free", name="Renamed")).raise_for_status()
        choose(page, a, b, f)
        (bound,) = (w for w in client.get("/v1/workspaces?account=buyer").json()["workspaces"] if w["workspace"] == f)
        assert (bound["plan"], bound["name"]) == ("commercial", "Renamed"), "the page changes the plan alone"
        onward(page, "Confirm")
        assert page.eval_on_selector_all(".step .chips li", "all => all.map(li => li.textContent)") == [a, f, b]
        onward(page, "Pay")
        page.fill('[data-pocket="card:c1"]', "300")
        eventually(
            page, lambda: "only 200.00 can be spent" in page.inner_text(".summary .faults"), "the faults in words"
        )
        assert "does not add up" in page.inner_text(".summary .faults")
        assert page.is_disabled("#buy-next")
        page.fill('[data-pocket="card:c1"]', "100")
        page.locator(".pockets-to-pay li", has_text="Cash").get_by_text("Use it for the rest").click()
        eventually(page, lambda: page.inner_text("#pay-left") == "0.00 CNY", "it adds up")
        onward(page, "Done")
        assert balances(client, "buyer") == {"cash": 100_000 - PRICE + 100, "card:c1": 100}
        plan, traffic = active(client, "buyer")
        assert (plan["workspaces"], traffic["workspaces"]) == ([a, f, b], [a, f, b])
        page.click("#buy-see")
        card = page.wait_for_selector(f'[data-package="{plan["package"]}"]')
        assert card is not None
        assert "372" in card.inner_text()
        client.post("/v1/events", json=event(b, "logs", 4_000_000, "buyer-1", now())).raise_for_status()
        gauge = f'[data-package="{plan["package"]}"] [data-meter=logs] .gauge-figures'
        eventually(page, lambda: page.locator(gauge).first.inner_text() == "4M / 40M", "what is used today")
        page.click("[data-tab=wallet]")
        eventually(page, lambda: "−55,392.00" in page.inner_text(".entries"), "the entry of the order")
        assert "44,708.00" in page.inner_text('[data-pocket="cash"]')


def test_a_package_is_shared_upgraded_and_ended(served: Served, open_page: Open) -> None:
    """In dialogs and in the short purchase; what is refused is said, and the days before keep what they had."""
    with served.client() as client:
        a, b, _ = shop(client, "owner", "42000")
        order = {
            "id": "owner-1",
            "plan": "startup",
            "workspaces": [a, b],
            "price": "42000",
            "payment": {"cash": "42000"},
        }
        client.post("/v1/accounts/owner/orders", json=order).raise_for_status()
        page = open_page("owner", "packages")
        page.wait_for_selector('[data-package="owner-1"] footer').query_selector_all(".button")[2].click()
        page.click(f'dialog [data-workspace="{b}"] [aria-label$="up"]')
        page.click("dialog .main")
        page.wait_for_selector("dialog", state="detached")
        eventually(page, lambda: [p["workspaces"] for p in active(client, "owner")] == [[b, a]], "the other order")
        chips = "all => all.map(li => li.textContent)"
        eventually(
            page, lambda: page.eval_on_selector_all(".owned .chips li", chips) == [b, a], "the order on the page"
        )
        page.click(".owned footer .button:text-is('Upgrade')")
        page.click("[data-plan=development]")
        onward(page, "Confirm")
        eventually(page, lambda: page.inner_text("#buy-total") == "238,000.00 CNY", "the price")
        onward(page, "Pay")
        assert page.is_disabled("#buy-next")
        page.click(".pay-left .button")
        page.fill("#fund-amount", "238,000.00")
        page.click("dialog .main")
        page.wait_for_selector("dialog", state="detached")
        onward(page, "Done")
        (upgraded,) = active(client, "owner")
        assert (upgraded["plan"], balances(client, "owner")) == ("development", {"cash": 0})
        page.click("#buy-see")
        page.click(f'.owned[data-package="{upgraded["package"]}"] footer .danger')
        page.click("dialog .button.danger")
        page.wait_for_selector("dialog", state="detached")
        eventually(page, lambda: page.is_visible("text=No package yet"), "none is left")
        assert active(client, "owner") == []
        assert page.locator(".earlier li").count() >= 1


def test_the_statement_of_a_settled_day(served: Served, open_page: Open, tmp_path: Path) -> None:
    """The day's line can be traced, its revisions differ by what came late, and the month is a CSV file."""
    then = now() - timedelta(days=6)
    with served.client() as client:
        a, *_ = shop(client, "stater", "100")
        page = open_page("stater", "wallet")
        for number, (quantity, left) in enumerate(((20_000_000, 70), (1_000_000, Decimal("68.5")))):
            client.post("/v1/events", json=event(a, "logs", quantity, f"stater{number}", then)).raise_for_status()
            eventually(page, lambda left=left: balances(client, "stater") == {"cash": left}, f"{left} are left")  # type: ignore[misc]
        eventually(page, lambda: "−1.50" in page.inner_text(".entries"), "the difference")
        page.click("[data-tab=statements]")
        if then.month != now().month:
            page.click('[aria-label="Month before"]')
        day = f'[data-day="{then.date()}"]'
        eventually(
            page, lambda: page.locator(f"{day} summary").inner_text().endswith("31.50 CNY"), "the second revision"
        )
        page.click(f"{day} summary")
        cells = page.wait_for_selector(f"{day} tbody tr")
        assert cells is not None
        text = cells.inner_text()
        assert all(part in text for part in (a, "Log data, pay as you go, 14 d kept", "21,000,000", "21.00", "1.5 per 1,000,000", "31.50"))  # fmt: skip
        page.click(f"{day} .segments button:first-child")
        assert "30.00" in page.inner_text(f"{day} tfoot")
        with page.expect_download() as saving:
            page.click("#download-csv")
        saving.value.save_as(tmp_path / "lines.csv")
        (line,) = csv.DictReader((tmp_path / "lines.csv").open())
        assert (line["workspace"], Decimal(line["amount"])) == (a, Decimal("31.5"))


def test_it_fits_a_phone_and_a_key_that_may_only_read(served: Served, open_page: Open) -> None:
    """360 pixels without scrolling sideways, dark; a key without `admin` sees all and is offered nothing."""
    with served.client() as client:
        a, b, _ = shop(client, "phone", "42000")
        order = {"id": "a-rather-long-name-of-an-order-of-the-whole-group", "plan": "startup", "workspaces": [a, b], "price": "42000",
                 "payment": {"cash": "42000"}}  # fmt: skip
        client.post("/v1/accounts/phone/orders", json=order).raise_for_status()
        page = open_page("phone", "packages", viewport={"width": 360, "height": 740}, color_scheme="dark")
        page.wait_for_selector(".owned")
        for tab in ("packages", "buy", "wallet", "statements"):
            page.click(f"[data-tab={tab}]")
            page.wait_for_timeout(100)
            assert page.evaluate("document.documentElement.scrollWidth") == 360, tab
        page.click("#view-usage")
        assert page.is_visible("#day")
        page.go_back()
        page.wait_for_selector("#month-title")
    reader = open_page("", "packages", "reader")
    reader.wait_for_selector("#billing-problem:not([hidden])")
    assert "may look, not buy" in reader.inner_text("#billing-problem")
    assert reader.is_hidden("[data-tab=buy]")
    assert reader.locator(".owned footer:visible").count() == 0

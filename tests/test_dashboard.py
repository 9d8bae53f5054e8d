"""The dashboard in a real browser, on the real API, Kafka and ClickHouse."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from agents.api.keys import create_key
from agents.local.processes import free_port
from agents.local.services import Services
from conftest import Meter
from world import binding, event, package

NOW = datetime.now(UTC)
MILLION = 1_000_000
#: Larger than a float holds exactly.
HUGE = 9_007_199_254_740_993


class Site:
    """A meter with a worker, and an API that can be killed and started again at the same address."""

    def __init__(self, services: Services, folder: Path) -> None:
        # Playwright's own loop runs in this thread, where `asyncio.run` is refused: what needs one runs in another.
        self._aside = ThreadPoolExecutor(1)
        self.meter: Meter = self._aside.submit(Meter, services, folder).result()
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        keys = folder / "keys.toml"
        _, self.key = create_key(keys, ["shop", "group", "new"], ["read"], "test")
        _, self.ingest_key = create_key(keys, ["shop"], ["ingest"], "test")
        self._env = self.meter.env | {"DRAWDOWN_API_PORT": str(self.port), "DRAWDOWN_API_KEYS_FILE": str(keys)}
        self._log = folder / "api.log"
        self._sent = 0
        self.meter.start_worker()
        self.start()

    def start(self) -> None:
        """Start the API, and wait until it is ready."""
        with self._log.open("ab") as output:
            command = [sys.executable, "-m", "agents.cli", "api"]
            self.api = subprocess.Popen(command, env=self._env, stdout=output, stderr=output)
        self.meter.wait(self._ready, f"the API is ready; {self._log}", 60)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """As a crash does."""
        self.api.kill()
        self.api.wait()

    def get(self, path: str) -> Any:
        """What the API says."""
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def use(self, usage: dict[str, int], meter: str = "logs") -> None:
        """Send one event of so much for each workspace."""
        self._sent += 1
        now = datetime.now(UTC)
        values = [
            (w.encode(), json.dumps(event(w, meter, quantity, f"{w}-{self._sent}", now)).encode())
            for w, quantity in usage.items()
        ]
        self._aside.submit(self.meter.send, "usage", values).result()

    def documents(self, bindings: list[dict[str, Any]], packages: list[dict[str, Any]]) -> None:
        """Bind workspaces and sell packages."""
        self._aside.submit(self.meter.documents, bindings, packages).result()

    def close(self) -> None:
        """End everything."""
        self.kill()
        self.meter.close()
        self._aside.shutdown()


MANY = [f"production-eu-central-1/observability-platform/team-{n:02}-payments-and-risk" for n in range(40)]


@pytest.fixture(scope="module")
def site(services: Services, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`shop` shares 150 million logs between A and B; `group` has 40 workspaces with long names; `new` has used nothing."""
    assert browser.is_connected()
    running = Site(services, tmp_path_factory.mktemp("site"))
    running.documents(
        [binding(w, "shop") for w in "AB"] + [binding(w, "group") for w in MANY] + [binding("only", "new")],
        [
            package("shared", "shop", ["A", "B"], {"logs": 150 * MILLION, "traces": HUGE}, NOW),
            package("the-package-of-all-business-units-of-the-whole-group", "group", MANY, {"logs": 40, "triggers": 0}, NOW),
            package("first", "new", ["only"], {"logs": MILLION}, NOW),
        ],
    )  # fmt: skip
    running.use(dict.fromkeys(MANY, 2))
    running.meter.wait(lambda: len(running.get("/v1/accounts")["accounts"]) == 3, "the accounts are known")
    yield running
    running.close()


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Opens pages; a page that complained in its console fails the test."""
    complaints: list[str] = []
    with ExitStack() as stack:

        def opened(fragment: str, *, quiet: bool = True, **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}} | options)
            stack.callback(context.close)
            page = context.new_page()
            if quiet:
                # Chromium minds when a font that was loaded ahead is not used within three seconds.
                page.on(
                    "console",
                    lambda m: (
                        complaints.append(m.text)
                        if m.type in {"error", "warning"} and "preload" not in m.text
                        else None
                    ),
                )
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(f"{site.address}/#{fragment}")
            return page

        yield opened
    assert not complaints


def account_page(open_page: Callable[..., Page], site: Site, account: str, **options: Any) -> Page:
    """The page of an account, live."""
    page = open_page(f"key={site.key}&account={account}", **options)
    page.wait_for_selector("#live[data-state=live]")
    page.wait_for_selector(".quota")
    return page


def whole(shown: str) -> int:
    return int(shown.replace(",", ""))


def quotas_shown(page: Page) -> dict[str, list[int]]:
    """meter/package -> [used, quota], exactly."""
    titles = page.eval_on_selector_all(
        ".quota", "all => all.map(q => [q.dataset.quota, q.querySelector('.quota-used').title])"
    )
    return {name: [whole(part) for part in title.split(" of ")] for name, title in titles}


def drawn(page: Page) -> None:
    """Wait for the next frame: the page draws in it what was clicked or typed before."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => done()))")


def shares_shown(page: Page, quota: str) -> dict[str, list[int]]:
    """Workspace -> [demand, covered, overage] of a quota, which is opened."""
    page.click(f'[data-quota="{quota}"] .quota-head')
    drawn(page)
    rows = page.eval_on_selector_all(
        f'[data-quota="{quota}"] tbody tr', "all => all.map(r => [...r.cells].map(c => c.innerText.trim()))"
    )
    return {name: [whole(demand), whole(covered), whole(over)] for name, demand, covered, _passed, over in rows}


def quotas_told(site: Site, account: str) -> dict[str, list[int]]:
    """As `quotas_shown`, out of the API."""
    rows = site.get(f"/v1/accounts/{account}/quotas")["quotas"]
    return {f"{row['meter']}/{row['package']}": [row["used"], row["quota"]] for row in rows}


def eventually(check: Callable[[], bool], what: str, page: Page, seconds: float = 20) -> None:
    """Wait while the page goes on."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            pytest.fail(f"not reached in {seconds} s: {what}; page: {page.inner_text('body')[:1500]}")
        page.wait_for_timeout(50)


def test_numbers_days_and_the_stream_format_are_exact(open_page: Callable[..., Page], site: Site) -> None:
    """The pure modules of the page, in the browser that runs them."""
    page = account_page(open_page, site, "new")
    found = page.evaluate("""async () => {
        const n = await import("/assets/js/numbers.js");
        const d = await import("/assets/js/days.js");
        const { parser } = await import("/assets/js/stream.js");
        const parsed = n.parseExact(String.raw`{"a": 1000000000000000000, "b": [1, -2, 0.25], "c": "12345678901234567890 \\" 1.5", "d": null}`);
        const messages = [];
        const feed = parser((m) => messages.push(m));
        const text = ": comment\\r\\nretry: 1\\r\\n\\r\\nid: 7\\nevent: quota\\ndata: {\\"a\\":\\ndata: 1}\\n\\ndata: x\\r\\r";
        for (const piece of text.match(/[^]{1,3}/g)) feed(piece);
        feed("\\n");
        return {
            parsed,
            grouped: n.grouped(n.quantity(parsed.a)),
            short: [0n, 999n, 1000n, 12_345n, 149_999_999n, 150_000_000n, 10n ** 18n].map(n.short),
            percent: [n.percent(1499n, 1500n), n.percent(0n, 0n), n.percent(2n, 1n)],
            sum: n.addDecimals(["0.1", "0.2", "-1", "1000000000000000000.00000001"]),
            money: ["0.005", "0.0049999", "75", "-1234.565", "1000000000000000000.1"].map(n.money),
            lengths: ["2026-03-08", "2026-11-01", "2026-11-02"].map((day) => {
                const [from, to] = d.dayBounds(day, "America/New_York");
                return (to - from) / 3600000;
            }),
            start: new Date(d.dayBounds("2026-11-24", "Asia/Kolkata")[0]).toISOString(),
            day: d.dayOf(Date.parse("2026-11-24T16:30:00Z"), "Asia/Shanghai"),
            messages,
        };
    }""")
    assert found == {
        "parsed": {"a": "1000000000000000000", "b": [1, -2, "0.25"], "c": '12345678901234567890 " 1.5', "d": None},
        "grouped": "1,000,000,000,000,000,000",
        "short": ["0", "999", "1k", "12.3k", "149M", "150M", "1,000,000T"],
        "percent": ["99.9%", "–", "200.0%"],
        "sum": "999999999999999999.30000001",
        "money": ["0.01", "0.00", "75.00", "−1,234.57", "1,000,000,000,000,000,000.10"],
        "lengths": [23, 25, 24],
        "start": "2026-11-23T18:30:00.000Z",
        "day": "2026-11-25",
        "messages": [{"id": "7", "event": "quota", "data": '{"a":\n1}'}, {"data": "x"}],
    }


def test_figures_are_those_of_the_api_while_events_flow(open_page: Callable[..., Page], site: Site) -> None:
    """Never ahead of the API, never behind it for long, and equal to the last event when the flow ends."""
    page = account_page(open_page, site, "shop")
    quota = "logs/shared"
    for _ in range(10):
        site.use({"B": 10 * MILLION, "A": 10 * MILLION})
        before = quotas_shown(page)[quota][0]
        told = quotas_told(site, "shop")[quota][0]
        assert before <= told
        eventually(lambda told=told: quotas_shown(page)[quota][0] >= told, f"{told} is shown", page)  # type: ignore[misc]
    for quantity in [10**15] * 9 + [HUGE % 10**15]:
        site.use({"A": quantity}, "traces")
    eventually(lambda: quotas_shown(page) == {quota: [150 * MILLION, 150 * MILLION], "traces/shared": [HUGE, HUGE]},
               "all is shown", page)  # fmt: skip
    assert quotas_shown(page) == quotas_told(site, "shop")
    # A full quota does not say how much more there is to come.
    shares = {"A": [100 * MILLION, 100 * MILLION, 0], "B": [100 * MILLION, 50 * MILLION, 50 * MILLION]}
    eventually(lambda: shares_shown(page, quota) == shares, "the overage is shown", page)
    exact = '#charges tr[data-workspace="B"] td:last-child'
    eventually(
        lambda: page.locator(exact).count() == 1 and page.get_attribute(exact, "title") == "75", "it is charged", page
    )
    charges = site.get("/v1/accounts/shop/charges")
    assert page.get_attribute("#tile-charges", "title") == charges["up_to_now"] == "75"
    quantity = '#charges tr[data-line^="B "] td:nth-child(2)'
    eventually(
        lambda: page.locator(quantity).all_inner_texts() == ["50,000,000"], "the overage beside its charge", page
    )

    def in_proportion() -> bool:  # at last: they grow
        widths = "all => all.map(s => s.getBoundingClientRect().width)"
        a, b, over = page.eval_on_selector_all(f'[data-quota="{quota}"] :is(.share, .bar-over)', widths)
        return bool(a == pytest.approx(2 * b, abs=3) == pytest.approx(2 * over, abs=3))

    eventually(in_proportion, "the bars have the widths of their figures", page)


def test_a_page_that_lost_its_api_says_so_and_then_catches_up(open_page: Callable[..., Page], site: Site) -> None:
    """Killed, and started again while usage went on: the page greys out, comes back by itself, and misses nothing."""
    page = account_page(open_page, site, "new", quiet=False)
    site.use({"only": 1})
    eventually(lambda: quotas_shown(page)["logs/first"][0] == 1, "the first event", page)
    site.kill()
    page.wait_for_selector('#main[data-stale="true"]')
    page.wait_for_selector("#banner:not([hidden])")
    assert "old" in page.inner_text("#banner")
    assert page.inner_text("#live-state") == "Not live"
    site.use({"only": 1000})
    site.start()
    eventually(
        lambda: quotas_shown(page)["logs/first"][0] == 1001, "what happened meanwhile", page, seconds=60
    )  # it tries again every 15 s at last
    page.wait_for_selector("#banner", state="hidden")
    assert page.get_attribute("#main", "data-stale") == "false"
    site.use({"only": 1})
    eventually(lambda: quotas_shown(page)["logs/first"][0] == 1002, "and it goes on", page)


def test_a_wrong_key_shows_the_form_and_a_right_one_leaves_the_address_bar(
    open_page: Callable[..., Page], site: Site
) -> None:
    """The key goes into the tab's own storage and nowhere else."""
    page = open_page("key=dd_000000000000_wrong", quiet=False)
    eventually(lambda: "not known" in page.inner_text("body"), "what is wrong with the key", page)
    assert page.is_visible("#door-form")
    assert page.is_hidden("#app")
    page.fill("#door-key", site.ingest_key)
    page.keyboard.press("Enter")
    eventually(lambda: "may not read" in page.inner_text("body"), "that the key lacks the scope", page)
    page.fill("#door-key", site.key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#live[data-state=live]")
    assert site.key not in page.url
    page.reload()
    page.wait_for_selector("#live[data-state=live]")
    page.click("#leave")
    page.wait_for_selector("#door-form")
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0


def test_everything_is_reached_with_the_keyboard(open_page: Callable[..., Page], site: Site) -> None:
    """Skip link, account, theme, quotas by arrow keys; focus is always visible."""
    page = account_page(open_page, site, "shop", color_scheme="dark")
    press = page.keyboard.press
    focused: Callable[[], str] = lambda: page.evaluate("document.activeElement.id || document.activeElement.className")  # noqa: E731
    press("Tab")
    assert focused() == "skip"
    press("Enter")
    press("Tab")
    assert focused() == "day-before"
    while focused() != "quota-head":
        press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    press("ArrowDown")
    press("Enter")
    drawn(page)
    assert page.get_attribute('[data-quota="traces/shared"] .quota-head', "aria-expanded") == "true"
    assert page.get_attribute('[data-quota="logs/shared"] .quota-head', "aria-expanded") == "false"
    eventually(
        lambda: "traces" in page.inner_text("#burndown-of") or "APM" in page.inner_text("#burndown-of"),
        "its chart",
        page,
    )
    page.focus("#theme")
    press("Space")
    assert page.get_attribute("html", "data-theme") == "light"
    page.focus("#account")
    press("Home")
    eventually(lambda: page.title() == "group · Drawdown", "another account", page)


def test_it_fits_a_phone_with_forty_workspaces_of_long_names(open_page: Callable[..., Page], site: Site) -> None:
    """360 pixels, no scrolling sideways; a quota of 0 and one that is exhausted."""
    page = account_page(open_page, site, "group", viewport={"width": 360, "height": 740})
    name = "the-package-of-all-business-units-of-the-whole-group"
    eventually(lambda: quotas_shown(page).get(f"logs/{name}") == [40, 40], "the quota is exhausted", page)
    page.click("text=Show all 40 workspaces")
    drawn(page)
    assert page.locator(f'[data-quota="logs/{name}"] tbody tr').count() == 40
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.inner_text(f'[data-quota="triggers/{name}"] .quota-percent') == "–"

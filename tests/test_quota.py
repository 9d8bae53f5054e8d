"""`drawdown quota`: which day it shows, in which order, and whether it fits the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from agents.clickhouse import INSERT_SETTINGS
from agents.quota import Row
from agents.quota_view import QuotaView, short
from conftest import Meter
from world import binding, package

AT = datetime(2026, 11, 24, 14, 5, 12, tzinfo=UTC)


def row(meter: str, name: str, quota: int, held: dict[str, tuple[int, int]], **more: Any) -> Row:
    """A quota; `held`: workspace -> (demand, covered)."""
    used = sum(covered for _, covered in held.values())
    return {
        "meter": meter, "package": name, "quota": quota, "used": used, "remaining": quota - used,
        "utilization": Decimal(used) / quota, "burn_rate_per_minute": 95_200, "exhausts_at": None, "at": AT,
        "workspaces": [{"workspace": w, "demand": demand, "covered": covered} for w, (demand, covered) in held.items()],
    } | more  # fmt: skip


QUOTAS = [
    row("logs", "plan", 150_000_000, {"A": (100_000_000, 100_000_000), "B": (100_000_000, 50_000_000)}),
    row("logs", "extra", 30_000_000, {"B": (50_000_000, 25_500_000)}, exhausts_at=AT + timedelta(hours=1)),
    row(
        "traces",
        "a-package-with-a-name-that-is-far-too-long-for-any-terminal",
        10**15,
        {f"w{i:02}": (i, i) for i in range(40)},
    ),
]
OVER = [
    {"meter": "logs", "workspace": "B", "basis": "package", "retention_days": None, "quantity": 24_500_000,
     "amount": Decimal("36.75"), "currency": "CNY", "plan": "commercial"},
    {"meter": "hosts", "workspace": "C", "basis": "payg", "retention_days": 7, "quantity": 25, "amount": None, "currency": "CNY",
     "plan": "commercial"},
    {"meter": "hosts", "workspace": "F", "basis": "payg", "retention_days": 7, "quantity": 9, "amount": None, "currency": "CNY",
     "plan": "free"},
]  # fmt: skip


def shown(width: int, **more: Any) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(QuotaView("acct", date(2026, 11, 24), ZoneInfo("Asia/Shanghai"), QUOTAS, OVER, **more))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 160, 300])
def test_it_fits_the_terminal_and_says_everything(width: int) -> None:
    """Who holds how much, what is passed on, rate, forecast in the account's time zone, overage and its charge."""
    lines = shown(width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for part in (
        "Asia/Shanghai",
        "● A",
        "● B",
        "+50M",
        "ends at 23:05",
        "used up",
        "lasts the day",
        "36.75 CNY",
        "no price",
        "Free plan",
    ):
        assert part in text, part
    assert "… and 28 more that hold" in text
    assert ("95.2k a minute" in text) == (width < 120)


def test_with_room_numbers_are_in_full() -> None:
    console = Console(width=160, force_terminal=False)
    with console.capture() as captured:
        console.print(QuotaView("acct", date(2026, 11, 24), ZoneInfo("UTC"), QUOTAS[:2], OVER))
    assert "150,000,000 150,000,000 100.0%" in captured.get()
    assert "95,200" in captured.get()


def test_the_bars_are_a_waterfall() -> None:
    """A workspace's part begins where that of the one before it ends, and together they are the package's."""
    plan, a, b = [line for line in shown(80) if line.lstrip().startswith(("plan", "● A", "● B"))][:3]
    filled = [[i for i, c in enumerate(line) if c == "█"] for line in (plan, a, b)]
    assert filled[0] == filled[1] + filled[2]
    assert len(filled[1]) == 2 * len(filled[2])


def test_output_that_nobody_looks_at_live_has_every_workspace() -> None:
    assert sum("● w" in line for line in shown(80, all_workspaces=True)) == 40


@pytest.mark.parametrize(
    ("quantity", "text"), [(999, "999"), (1000, "1k"), (1999, "1.9k"), (139_549_999, "139.5M"), (10**15, "1000T")]
)
def test_short_numbers_never_round_up(quantity: int, text: str) -> None:
    assert short(quantity) == text


def quota(meter: Meter, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agents.cli", "quota", *arguments]
    return subprocess.run(command, env=meter.env, capture_output=True, text=True, timeout=60, check=False)


def test_today_is_the_accounts_and_packages_are_in_draw_down_order(meter: Meter) -> None:
    """In a time zone where it is another day than in UTC now; the plan comes before the traffic package, whatever their names."""
    zones = ("Pacific/Kiritimati", "Etc/GMT+12")
    zone = next(z for z in zones if datetime.now(ZoneInfo(z)).date() != datetime.now(UTC).date())
    today, now = datetime.now(ZoneInfo(zone)).date(), datetime.now(UTC)
    meter.documents(
        [binding("A", "acct", zone), binding("Z", "other", "UTC")],
        [package("a-traffic", "acct", ["A"], {"logs": 50}, now, "traffic"), package("z-plan", "acct", ["A"], {"logs": 100}, now)],
    )  # fmt: skip
    meter.send("workspaces", [(b"junk", b"{"), (b"gone", b"")])
    for day, used in ((today, 40), (today - timedelta(days=1), 99), (today + timedelta(days=1), 98)):
        for name, of, version in (("a-traffic", 500, 1), ("z-plan", 1000, 1), ("z-plan", 1000, 2)):
            status = row("logs", name, of, {"A": (used + version, used + version)}) | {
                "account": "acct", "day": str(day), "version": version, "at": AT.isoformat(), "utilization": 0.5,
            }  # fmt: skip
            block = json.dumps(status).encode()
            meter.client.raw_insert("quota_landing", insert_block=block, fmt="JSONEachRow", settings=INSERT_SETTINGS)
    told = json.loads(quota(meter, "acct", "--json").stdout)
    assert [(r["day"], r["package"], r["used"]) for r in told] == [
        (str(today), "z-plan", 42),
        (str(today), "a-traffic", 41),
    ]
    assert told[0]["workspaces"] == [{"workspace": "A", "demand": 42, "covered": 42}]
    printed = quota(meter, "acct", "--day", str(today - timedelta(days=1)))
    assert (printed.returncode, "z-plan" in printed.stdout, "101" in printed.stdout) == (0, True, True)
    nobody = quota(meter, "nobody")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
    assert "'nobody' has no package and no usage on" in nobody.stderr

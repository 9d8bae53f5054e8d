"""The catalog: the figures of the vendor's pages, and a strict check that reports everything at once."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.catalog import CatalogInvalid, load_catalog

CATALOG = load_catalog()
#: A day of the era of the packages' page (before the first known change of a price), and one of today.
PRICE_1, NOW = date(2023, 4, 19), date(2026, 11, 24)


def charge(day: date, lines: list[tuple[str, int, int]]) -> Decimal:
    """What (meter, retention, quantity) cost in CNY at the China site: units truncated to two decimals."""
    total = Decimal(0)
    for meter, retention, quantity in lines:
        price = CATALOG.price(meter, retention, "cn", "CNY", day)
        assert price is not None
        total += Decimal(quantity * 100 // CATALOG.meters[meter].unit_size) / 100 * price
    return total


def test_the_twelve_meters() -> None:
    sums = {"logs", "traces", "page_views", "triggers", "synthetic_tests", "profiles", "sms"}
    peaks = {"hosts", "time_series", "network_hosts", "session_replays", "forwarded_bytes"}
    assert {key for key, meter in CATALOG.meters.items() if meter.aggregation == "sum"} == sums
    assert {key for key, meter in CATALOG.meters.items() if meter.aggregation == "max"} == peaks


def test_only_the_stated_factors_differ_from_one() -> None:
    factors = {(key, days): f for key, meter in CATALOG.meters.items() for days, f in meter.factors.items() if f != 1}
    assert factors == {("logs", 30): 2, ("logs", 60): 3, ("traces", 14): 2, ("page_views", 14): 2}
    defaults = {key: CATALOG.meters[key].default_retention for key in ("logs", "traces", "page_views", "hosts")}
    assert defaults == {"logs": 14, "traces": 7, "page_views": 7, "hosts": 0}


def test_a_plan_for_372_days_costs_what_the_page_says() -> None:
    for plan in CATALOG.plans.values():
        lines = [(meter, CATALOG.meters[meter].default_retention, quota) for meter, quota in plan.quotas.items()]
        assert plan.term_days == 372
        assert charge(PRICE_1, lines) * plan.term_days == plan.payg_price > plan.price


def test_a_traffic_package_costs_what_its_quota_costs_by_usage() -> None:
    for traffic in CATALOG.traffic.values():
        lines = [(traffic.meter, CATALOG.meters[traffic.meter].default_retention, traffic.quota)]
        assert charge(PRICE_1, lines) == traffic.price


def test_worked_examples_4_1_4_2_and_4_3() -> None:
    rest = [("hosts", 0, 5), ("traces", 7, 5_000_000), ("page_views", 7, 400_000), ("triggers", 0, 20_000)]
    assert charge(NOW, [*rest, ("logs", 14, 40_000_000)]) == 132
    assert charge(NOW, [*rest, ("logs", 14, 10_000_000)]) == 87
    assert charge(NOW, [("logs", 14, 50_000_000)]) == 75


def test_worked_examples_4_4_4_5_and_4_6_at_the_prices_of_their_era() -> None:
    usage = [("logs", 7, 2_000_000), ("traces", 3, 2_000_000), ("page_views", 3, 20_000), ("triggers", 0, 20_000)]
    assert charge(PRICE_1, [*usage, ("hosts", 0, 10)]) == Decimal("39.8")
    assert charge(PRICE_1, [*usage, ("time_series", 3, 500)]) == Decimal("11.3")
    assert charge(NOW, [*usage, ("time_series", 3, 6_000)]) == Decimal("13.4")


@pytest.mark.parametrize(
    ("meter", "retention", "last_day", "before", "after"),
    [
        ("time_series", 360, date(2023, 4, 19), "3", "7"),
        ("traces", 60, date(2023, 12, 31), "60", "19.44"),
        ("page_views", 30, date(2023, 12, 31), "6", "3.6"),
        ("session_replays", 0, date(2023, 12, 31), "10", "2.5"),
    ],
)
def test_a_price_changes_on_its_day(meter: str, retention: int, last_day: date, before: str, after: str) -> None:
    next_day = date.fromordinal(last_day.toordinal() + 1)
    assert CATALOG.price(meter, retention, "cn", "CNY", last_day) == Decimal(before)
    assert CATALOG.price(meter, retention, "cn", "CNY", next_day) == Decimal(after)


def test_what_no_page_prices_has_no_price() -> None:
    assert CATALOG.price("hosts", 0, "intl", "USD", NOW) is None
    assert CATALOG.price("logs", 5, "cn", "CNY", NOW) is None


def test_an_operators_file_adds_meters_plans_and_later_prices(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("""
[meters.gpu_seconds]
name = "GPU"
unit = "second"
unit_size = 3600
aggregation = "sum"
factors = { 0 = 1 }
default_retention = 0
[[prices]]
meter = "gpu_seconds"
site = "cn"
currency = "CNY"
price = { 0 = "9.5" }
[[prices]]
meter = "logs"
site = "cn"
currency = "CNY"
effective = 2027-01-01
price = { 14 = "1.4" }
[plans.metrics]
name = "Metrics"
term_days = 30
price = "100"
payg_price = "120"
currency = "CNY"
quotas = { time_series = 10_000, gpu_seconds = 60 }
""")
    catalog = load_catalog(own)
    assert catalog.price("gpu_seconds", 0, "cn", "CNY", NOW) == Decimal("9.5")
    assert catalog.price("logs", 14, "cn", "CNY", NOW) == Decimal("1.5")
    assert catalog.price("logs", 14, "cn", "CNY", date(2027, 1, 1)) == Decimal("1.4")
    assert catalog.plans["metrics"].quotas == {"time_series": 10_000, "gpu_seconds": 60}
    assert len(catalog.meters) == len(CATALOG.meters) + 1


def test_every_error_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("""
surprise = 1
[meters.x]
name = "X"
unit = "x"
unit_size = 0
aggregation = "mean"
factors = { 0 = 1.5 }
default_retention = 0
[[prices]]
meter = "logs"
site = "cn"
currency = "yuan"
price = { 14 = 1.5 }
""")
    with pytest.raises(CatalogInvalid) as caught:
        load_catalog(own)
    for place in ("surprise", "x.unit_size", "x.aggregation", "x.factors.0", "prices.0.currency", "prices.0.price.14"):
        assert f"own.toml: {place}" in str(caught.value).replace("meters.", "")


def test_contradictions_are_reported_at_once(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("""
[meters.x]
name = "X"
unit = "x"
unit_size = 1
aggregation = "sum"
factors = { 0 = 1, 7 = 1 }
default_retention = 14
[[prices]]
meter = "logs"
site = "cn"
currency = "CNY"
price = { 5 = "1", 14 = "9" }
[[prices]]
meter = "nothing"
site = "cn"
currency = "CNY"
price = { 0 = "1" }
[plans.p]
name = "P"
term_days = 1
price = "1"
payg_price = "1"
currency = "CNY"
quotas = { nothing = 1 }
""")
    with pytest.raises(CatalogInvalid) as caught:
        load_catalog(own)
    assert len(str(caught.value).splitlines()) == 6


@pytest.mark.parametrize("content", [b"[meters", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    own = tmp_path / "own.toml"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(CatalogInvalid, match=r"own\.toml"):
        load_catalog(own)

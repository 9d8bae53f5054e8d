"""The waterfall's laws as properties, and the worked examples as rows."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.law import LawBroken
from pipeline.waterfall import Drawdown, _check, draw_down, effective_packages
from schemas.wire import Package

NAMES = ["a", "b", "c", "d"]
quantities = st.one_of(st.integers(0, 30), st.integers(0, 10**18))
packages = st.lists(
    st.builds(
        Package,
        package=st.uuids().map(str), account=st.just("x"), kind=st.sampled_from(["plan", "traffic"]),
        workspaces=st.permutations(NAMES).flatmap(lambda p: st.integers(1, 4).map(lambda n: tuple(p[:n]))),
        quotas=st.fixed_dictionaries({"logs": quantities}),
        effective=st.just(date(2026, 1, 1)), expires=st.dates(date(2026, 1, 2), date(2026, 1, 9)),
        ordered_at=st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    ),
    max_size=4,
)  # fmt: skip
demands = st.dictionaries(st.sampled_from(NAMES), quantities)
DAY = date(2026, 1, 2)


@given(packages, demands)
def test_covered_and_overage_are_all_that_was_used(some: list[Package], demand: dict[str, int]) -> None:
    """Laws 1 to 4 hold (the function itself checks them), and the account's sums agree."""
    result = draw_down(effective_packages(some, DAY, "logs"), "logs", demand)
    listed = sum(q for w, q in demand.items() if w in result.overage)
    assert listed == sum(d.used for d in result.draws) + sum(result.overage.values())


@given(packages, demands, st.sampled_from(NAMES), st.integers(0, 100))
def test_overage_only_grows_with_usage(some: list[Package], demand: dict[str, int], who: str, more: int) -> None:
    """Law 5: more usage of anybody never lowers an overage of anybody."""
    ordered = effective_packages(some, DAY, "logs")
    before = draw_down(ordered, "logs", demand).overage
    after = draw_down(ordered, "logs", demand | {who: demand.get(who, 0) + more}).overage
    assert all(after[w] >= over for w, over in before.items())


@given(packages)
def test_the_order_of_packages_is_total(some: list[Package]) -> None:
    """However packages are listed, they are drawn in the same order: plans first, then earlier expiry, then id."""
    ordered = effective_packages(some, DAY, "logs")
    assert ordered == effective_packages(some[::-1], DAY, "logs")
    assert ordered == sorted(ordered, key=lambda p: (p.kind == "traffic", p.expires, p.package))


@pytest.mark.parametrize(
    ("quota", "demand", "covered", "overage"),
    [
        (150, {"a": 100, "b": 100}, [100, 50], [0, 50]),  # 4.3
        (150, {"a": 100, "b": 30}, [100, 30], [0, 0]),  # d-2
        (150, {"a": 200, "b": 100}, [150, 0], [50, 100]),  # d-3
        (100, {"a": 60, "b": 40}, [60, 40], [0, 0]),  # d-5: exactly the quota
    ],
)
def test_worked_examples(quota: int, demand: dict[str, int], covered: list[int], overage: list[int]) -> None:
    """The facts sheet's examples, in millions."""
    p = Package("p", "x", "plan", ("a", "b"), {"logs": quota}, DAY, DAY, datetime(2026, 1, 1, tzinfo=UTC))
    result = draw_down([p], "logs", demand)
    assert [s.covered for s in result.draws[0].shares] == covered
    assert [result.overage["a"], result.overage["b"]] == overage


def test_a_wrong_result_is_found() -> None:
    """The check does not believe the computation: an overage that does not add up is a breach."""
    with pytest.raises(LawBroken, match="law 1"):
        _check(Drawdown((), {"a": 1}), {"a": 2})

"""The catalog: meters with their conversion factors and prices, plans and traffic packages.

The packaged files (`schemas/catalog/*.toml`) come first; an operator's own file of the same form may add to them, but never
redefine what is there: a meter's meaning must not change under a ledger that was counted with it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Aggregation = Literal["sum", "max"]

_FILES = ("meters.toml", "prices.toml", "plans.toml", "traffic.toml")
#: A price without a date holds since ever; also the first day that ClickHouse's `Date` knows.
_SINCE_EVER = date(1970, 1, 1)
#: TOML keys are text, so retentions are parsed here; 0 stands for "no tiers".
_Retention = Annotated[int, Field(ge=0, le=3650, strict=False)]
_Key = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")]
_Money = Annotated[str, Field(pattern=r"^\d{1,12}(\.\d{1,6})?$")]
_Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
_Quota = Annotated[int, Field(ge=1, le=10**18)]
_T = TypeVar("_T")


class CatalogInvalid(Exception):
    """Everything that is wrong with the catalog, one error a line; exit code 2."""


@dataclass(frozen=True, slots=True)
class Price:
    """`price` of one `unit_size` of a meter with this retention (0: no tiers), at a site, from the day `effective` on."""

    meter: str
    retention_days: int
    site: str
    currency: str
    effective: date
    price: Decimal


@dataclass(frozen=True, slots=True)
class Meter:
    """A billing item. `factors`: retention in days -> conversion factor; a meter without tiers has the one retention 0.

    `unit_size` quantities are one priced unit; `free_daily` is the Free plan's limit a day, None where there is none; without
    `vouchers` its usage is never paid by voucher.
    """

    key: str
    name: str
    unit: str
    unit_size: int
    aggregation: Aggregation
    default_retention: int
    factors: Mapping[int, int]
    free_daily: int | None
    vouchers: bool
    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan package: `quotas` a day in converted quantities, for `term_days` days; prices are for the whole term."""

    key: str
    name: str
    term_days: int
    price: Decimal
    payg_price: Decimal
    currency: str
    quotas: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TrafficPackage:
    """A traffic package: `quota` of one meter a day, in converted quantity, at `price` a day, before discounts.

    `rates`: from so many multiples of the quota on, that share of the price is paid.
    """

    key: str
    meter: str
    quota: int
    price: Decimal
    currency: str
    rates: Mapping[int, Decimal]

    def price_of(self, multiples: int) -> Decimal:
        """The price a day of so many multiples of the quota, exactly."""
        rate = next(
            (rate for least, rate in sorted(self.rates.items(), reverse=True) if least <= multiples), Decimal(1)
        )
        return self.price * multiples * rate


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that can be metered and sold."""

    meters: Mapping[str, Meter]
    plans: Mapping[str, Plan]
    traffic: Mapping[str, TrafficPackage]
    #: (meter, retention, site, currency) -> prices, newest first.
    _prices: Mapping[tuple[str, int, str, str], tuple[Price, ...]] = field(repr=False)

    def price(self, meter: str, retention_days: int, site: str, currency: str, day: date) -> Decimal | None:
        """The price of one unit on that day; None when the price list has none."""
        prices = self._prices.get((meter, retention_days, site, currency), ())
        return next((p.price for p in prices if p.effective <= day), None)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _MeterEntry(_Entry):
    name: str
    unit: str
    unit_size: int = Field(ge=1, le=10**15)
    aggregation: Aggregation
    factors: dict[_Retention, Annotated[int, Field(ge=1, le=1000)]] = Field(min_length=1)
    default_retention: int
    free_daily: int | None = Field(None, ge=0)
    vouchers: bool = True


class _PriceEntry(_Entry):
    meter: str
    site: Annotated[str, Field(min_length=1, max_length=64)]
    currency: _Currency
    effective: date = Field(_SINCE_EVER, ge=_SINCE_EVER)
    price: dict[_Retention, _Money] = Field(min_length=1)


class _PlanEntry(_Entry):
    name: str
    term_days: int = Field(ge=1, le=36_600)
    price: _Money
    payg_price: _Money
    currency: _Currency
    quotas: dict[str, _Quota] = Field(min_length=1)


class _TrafficEntry(_Entry):
    meter: str
    quota: _Quota
    price: _Money
    currency: _Currency
    rates: dict[Annotated[int, Field(ge=2, strict=False)], Annotated[str, Field(pattern=r"^0\.\d{1,4}$")]] = {}


class _File(_Entry):
    """One catalog file; every file may have every section."""

    meters: dict[_Key, _MeterEntry] = {}
    prices: list[_PriceEntry] = []
    plans: dict[_Key, _PlanEntry] = {}
    traffic: dict[_Key, _TrafficEntry] = {}


def load_catalog(extra: Path | None = None) -> Catalog:
    """The packaged catalog and, when given, the operator's file. Raises `CatalogInvalid` with every error at once."""
    folder = resources.files("schemas") / "catalog"
    sources = [(name, (folder / name).read_bytes()) for name in _FILES]
    if extra is not None:
        try:
            sources.append((str(extra), extra.read_bytes()))
        except OSError as error:
            raise CatalogInvalid(f"{extra}: {error.strerror or error}") from None
    errors: list[str] = []
    files = [(name, parsed) for name, content in sources if (parsed := _parse(name, content, errors))]
    # Cross-references can only be judged when every file could be read.
    if not errors:
        errors = list(_contradictions(files))
    if errors:
        raise CatalogInvalid("\n".join(errors))
    return _build([parsed for _, parsed in files])


def _parse(name: str, content: bytes, errors: list[str]) -> _File | None:
    try:
        return _File.model_validate(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        errors.append(f"{name}: {error}")
    except ValidationError as invalid:
        for e in invalid.errors():
            where = ".".join(str(part) for part in e["loc"] if part != "[key]")
            errors.append(f"{name}: {where}: {e['msg']}")
    return None


def _contradictions(files: list[tuple[str, _File]]) -> Iterator[str]:
    """What no single entry shows: duplicates, unknown meters, retentions that a meter does not have."""
    meters: dict[str, _MeterEntry] = {}
    seen: set[tuple[Any, ...]] = set()

    def again(*identity: Any) -> bool:
        known = identity in seen
        seen.add(identity)
        return known

    for name, file in files:
        for key, meter in file.meters.items():
            if key in meters:
                yield f"{name}: meters.{key}: is in the catalog already"
                continue
            meters[key] = meter
            yield from (f"{name}: meters.{key}.{text}" for text in _meter_errors(meter))
    yield from _price_contradictions(files, meters, again)
    for name, file in files:
        for key, plan in file.plans.items():
            if again("plan", key):
                yield f"{name}: plans.{key}: is in the catalog already"
            yield from (f"{name}: plans.{key}.quotas.{m}: unknown meter" for m in plan.quotas if m not in meters)
        for key, traffic in file.traffic.items():
            if again("traffic", key):
                yield f"{name}: traffic.{key}: is in the catalog already"
            if traffic.meter not in meters:
                yield f"{name}: traffic.{key}.meter: unknown meter {traffic.meter!r}"


def _price_contradictions(
    files: list[tuple[str, _File]], meters: Mapping[str, _MeterEntry], again: Callable[..., bool]
) -> Iterator[str]:
    for name, file in files:
        for i, p in enumerate(file.prices):
            at = f"{name}: prices.{i} ({p.meter}, {p.site}, {p.currency}, {p.effective})"
            if p.meter not in meters:
                yield f"{at}: unknown meter"
                continue
            for retention in p.price:
                if retention not in meters[p.meter].factors:
                    yield f"{at}: {p.meter} has no retention of {retention} days"
                if again("price", p.meter, retention, p.site, p.currency, p.effective):
                    yield f"{at}: there is such a price of {retention} days from that day on already"


def _meter_errors(meter: _MeterEntry) -> Iterator[str]:
    if 0 in meter.factors and len(meter.factors) > 1:
        yield "factors: 0 stands for a meter without tiers and cannot be one of several"
    if meter.default_retention not in meter.factors:
        yield f"default_retention: {meter.default_retention} is no retention of the meter"


def _build(files: list[_File]) -> Catalog:
    prices: dict[tuple[str, int, str, str], list[Price]] = {}
    for entry in (entry for file in files for entry in file.prices):
        for retention, text in sorted(entry.price.items()):
            price = Price(entry.meter, retention, entry.site, entry.currency, entry.effective, Decimal(text))
            prices.setdefault((entry.meter, retention, entry.site, entry.currency), []).append(price)
    for known in prices.values():
        known.sort(key=lambda price: price.effective, reverse=True)
    meters = {
        key: Meter(
            key, m.name, m.unit, m.unit_size, m.aggregation, m.default_retention,
            _frozen(dict(sorted(m.factors.items()))), m.free_daily, m.vouchers,
            tuple(price for identity, known in sorted(prices.items()) if identity[0] == key for price in known),
        )
        for file in files for key, m in file.meters.items()
    }  # fmt: skip
    plans = {
        key: Plan(key, p.name, p.term_days, Decimal(p.price), Decimal(p.payg_price), p.currency, _frozen(p.quotas))
        for file in files
        for key, p in file.plans.items()
    }
    traffic = {
        key: TrafficPackage(
            key, t.meter, t.quota, Decimal(t.price), t.currency,
            _frozen({least: Decimal(rate) for least, rate in t.rates.items()}),
        )
        for file in files
        for key, t in file.traffic.items()
    }  # fmt: skip
    frozen_prices = {identity: tuple(known) for identity, known in prices.items()}
    return Catalog(_frozen(meters), _frozen(plans), _frozen(traffic), _frozen(frozen_prices))


def _frozen(mapping: dict[Any, _T]) -> Mapping[Any, _T]:
    return MappingProxyType(mapping)

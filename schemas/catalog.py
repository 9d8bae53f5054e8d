"""The catalog: meters with their retention tiers and prices, plans and traffic packages.

The packaged files hold the figures of the vendor's public pages; an operator's own file (`DRAWDOWN_CATALOG`) of the same
form adds to them, and replaces a meter, plan or traffic package of the same key as a whole.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

_FILES = ("meters.toml", "packages.toml")
_KEY = "^[a-z][a-z0-9_]*$"

Factor = Annotated[int, Meta(ge=1, le=1000)]
Quantity = Annotated[int, Meta(ge=1, le=10**18)]


class CatalogInvalid(Exception):
    """Everything that is wrong with the catalog, one line each."""


class Price(Struct, frozen=True):
    """The price of one unit (`Meter.unit_size` of the meter's own unit) of a day, from `effective` on."""

    site: str
    currency: str
    retention_days: int
    price: Decimal
    effective: date


class Meter(Struct, frozen=True):
    """A billing item. `factors` maps each retention (days; 0 = the meter has none) to its conversion factor."""

    key: str
    title: str
    unit: str
    unit_size: int
    aggregation: Literal["sum", "max"]
    default_retention: int
    factors: Mapping[int, int]
    prices: tuple[Price, ...]
    free_daily_limit: int | None = None


class Plan(Struct, frozen=True):
    """A plan package on sale: daily quotas in converted quantity, and the price of the whole term."""

    title: str
    term_days: Annotated[int, Meta(ge=1)]
    price: Decimal
    currency: str
    quotas: dict[str, Quantity]


class TrafficPackage(Struct, frozen=True):
    """An add-on daily quota of one meter, bought in multiples of `capacity`."""

    capacity: Quantity
    price_per_day: Decimal
    currency: str


class Catalog(Struct, frozen=True):
    """Everything that is on sale, by key."""

    meters: Mapping[str, Meter]
    plans: Mapping[str, Plan]
    traffic: Mapping[str, TrafficPackage]

    def price(self, meter: str, retention_days: int, site: str, currency: str, day: date) -> Decimal | None:
        """The price of a unit on a day, or None when the catalog has none."""
        newest = max(
            (
                p
                for p in self.meters[meter].prices
                if (p.site, p.currency, p.retention_days) == (site, currency, retention_days) and p.effective <= day
            ),
            key=lambda p: p.effective,
            default=None,
        )
        return newest.price if newest else None


class _MeterDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """A meter as it is written in TOML."""

    title: str
    unit: str
    unit_size: Quantity
    aggregation: Literal["sum", "max"]
    default_retention: int
    factors: dict[str, Factor]
    prices: list[dict[str, Any]] = []
    free_daily_limit: Quantity | None = None


_T = TypeVar("_T")


def load_catalog(extra: Path | None = None) -> Catalog:
    """The packaged catalog with the operator's file on top. Raises `CatalogInvalid` with every error at once."""
    sections: dict[str, dict[str, Any]] = {"meters": {}, "plans": {}, "traffic": {}}
    errors: list[str] = []
    texts = [(name, files("schemas").joinpath("catalog", name).read_text("utf-8")) for name in _FILES]
    try:
        if extra is not None:
            texts.append((str(extra), extra.read_text("utf-8")))
        for name, text in texts:
            for section, content in tomllib.loads(text).items():
                if section not in sections or not isinstance(content, dict):
                    errors.append(f"{name}: unknown section {section!r}")
                else:
                    sections[section] |= content
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogInvalid(f"{extra}: {error}") from None
    meters = {key: meter for key, raw in sections["meters"].items() if (meter := _meter(key, raw, errors))}
    plans = {key: plan for key, raw in sections["plans"].items() if (plan := _convert(key, raw, Plan, errors))}
    traffic = {
        key: package
        for key, raw in sections["traffic"].items()
        if (package := _convert(key, raw, TrafficPackage, errors))
    }
    for key, plan in plans.items():
        errors += (f"plans.{key}.quotas: unknown meter {name!r}" for name in plan.quotas if name not in meters)
    errors += (f"traffic.{key}: unknown meter" for key in traffic if key not in meters)
    if errors:
        raise CatalogInvalid("\n".join(errors))
    return Catalog(meters, plans, traffic)


def _convert(key: str, raw: object, kind: type[_T], errors: list[str]) -> _T | None:
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        errors.append(f"{key}: {error}")
        return None


def _meter(key: str, raw: object, errors: list[str]) -> Meter | None:
    document = _convert(key, raw, _MeterDocument, errors)
    if document is None:
        return None
    try:
        msgspec.convert(key, Annotated[str, Meta(pattern=_KEY)])
        factors = {int(retention): factor for retention, factor in document.factors.items()}
        prices = tuple(price for block in document.prices for price in _prices(block))
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        errors.append(f"meters.{key}: {error}")
        return None
    tiers = {price.retention_days for price in prices} | {document.default_retention}
    errors += (f"meters.{key}: retention {tier} has no factor" for tier in sorted(tiers - factors.keys()))
    return Meter(
        key, document.title, document.unit, document.unit_size, document.aggregation, document.default_retention,
        factors, prices, document.free_daily_limit,
    )  # fmt: skip


def _prices(block: dict[str, Any]) -> Iterator[Price]:
    """`effective = DATE`, then `site.CURRENCY = { retention = "price" }`."""
    effective = block["effective"] if isinstance(block.get("effective"), date) else None
    if effective is None:
        raise ValueError("a block of prices needs `effective = YYYY-MM-DD`")
    for site, currencies in block.items():
        if site == "effective":
            continue
        for currency, tiers in currencies.items():
            for retention, price in tiers.items():
                if not isinstance(price, str) or Decimal(price) < 0:
                    raise ValueError(f"the price {price!r} is not a non-negative decimal in quotes")
                yield Price(site, currency, int(retention), Decimal(price), effective)

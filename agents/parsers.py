"""Which documents are valid: the strict parsers of the topics `workspaces`, `packages` and `alert-rules`.

What they refuse (`UNDECODABLE` or a `ValueError`) is a dead letter at the inlet; every other reader leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from pipeline.admission import UNDECODABLE
from pipeline.days import zone
from pipeline.packages import has_status
from schemas.alerting import AMOUNT_MAX, DECIMALS_MAX, THRESHOLDS_MAX, AlertRules
from schemas.catalog import Catalog
from schemas.log import AccountEvent, AlertRulesChanged, Bound, PackageChanged
from schemas.topics import MESSAGE_BYTES_MAX
from schemas.wire import Package, WorkspaceBinding

#: So that what is made of a document is no larger than a record: its event, its state entry, its dead letter.
DOCUMENT_BYTES_MAX = MESSAGE_BYTES_MAX // 2


def accepted(parse: Callable[[bytes], AccountEvent], value: bytes) -> AccountEvent | None:
    """The document as an event; None for one that the inlet refuses, which makes a dead letter of it."""
    try:
        return parse(value) if len(value) <= DOCUMENT_BYTES_MAX else None
    except (*UNDECODABLE, ValueError):
        return None


def binding_parser(catalog: Catalog) -> Callable[[bytes], AccountEvent]:
    """Strict bindings: the time zone exists, and retentions are tiers of known meters."""
    decoder = msgspec.json.Decoder(WorkspaceBinding)

    def parse(value: bytes) -> AccountEvent:
        binding = decoder.decode(value)
        try:
            zone(binding.time_zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"$.time_zone: {binding.time_zone!r} is no IANA time zone") from None
        for meter, retention in binding.retention_days.items():
            if meter not in catalog.meters or retention not in catalog.meters[meter].factors:
                raise ValueError(f"$.retention_days.{meter}: no tier of {retention} days")
        for meter, past in binding.retention_before.items():
            if meter not in catalog.meters or any(one.days not in catalog.meters[meter].factors for one in past):
                raise ValueError(f"$.retention_before.{meter}: unknown meter, or no such tier")
            if [*past] != sorted(past, key=lambda one: one.until):
                raise ValueError(f"$.retention_before.{meter}: instants are not ascending")
        return Bound(binding.account, binding)

    return parse


def package_parser(catalog: Catalog) -> Callable[[bytes], AccountEvent]:
    """Strict packages: known meters, each workspace once, a term that does not end before it begins."""
    decoder = msgspec.json.Decoder(Package)

    def parse(value: bytes) -> AccountEvent:
        package = decoder.decode(value)
        for meter in package.quotas:
            if meter not in catalog.meters:
                raise ValueError(f"$.quotas.{meter}: unknown meter")
        if len(set(package.workspaces)) < len(package.workspaces):
            raise ValueError("$.workspaces: a workspace is listed twice")
        if not has_status(package):
            raise ValueError(f"$.workspaces: the quota status of {len(package.workspaces):,} is larger than a record")
        if package.expires < package.effective:
            raise ValueError("$.expires: earlier than effective")
        if package.kind == "traffic" and len(package.quotas) != 1:
            raise ValueError("$.quotas: a traffic package has exactly one meter")
        return PackageChanged(package.account, package)

    return parse


def rules_parser(catalog: Catalog) -> Callable[[bytes], AccountEvent]:
    """Strict alert rules: known meters, shares of a quota, amounts that fit into the table."""
    decoder = msgspec.json.Decoder(AlertRules)

    def parse(value: bytes) -> AccountEvent:
        rules = decoder.decode(value)
        for name in ("meters", "amounts"):
            for meter in getattr(rules, name) or ():
                if meter not in catalog.meters:
                    raise ValueError(f"$.{name}: unknown meter {meter!r}")
        if len(rules.thresholds) > THRESHOLDS_MAX or len(set(rules.thresholds)) < len(rules.thresholds):
            raise ValueError(f"$.thresholds: more than {THRESHOLDS_MAX}, or one of them twice")
        for threshold in rules.thresholds:
            _within("thresholds", threshold, Decimal(1))
        if rules.hysteresis:
            _within("hysteresis", rules.hysteresis, Decimal(1))
        for meter, amount in rules.amounts.items():
            _within(f"amounts.{meter}", amount, AMOUNT_MAX)
        if rules.total_amount is not None:
            _within("total_amount", rules.total_amount, AMOUNT_MAX)
        return AlertRulesChanged(rules.account, rules)

    return parse


def rules_gone(key: bytes) -> AccountEvent:
    """A tombstone: the defaults hold again for the account."""
    return AlertRulesChanged(key.decode(errors="replace"), None)


def _within(name: str, number: Decimal, most: Decimal) -> None:
    """Positive, not above `most`, and exact in the table."""
    exponent = number.as_tuple().exponent
    if not number.is_finite() or not 0 < number <= most:
        raise ValueError(f"$.{name}: {number} is not above 0 and at most {most}")
    if isinstance(exponent, int) and exponent < -DECIMALS_MAX:
        raise ValueError(f"$.{name}: {number} has more than {DECIMALS_MAX} decimals")

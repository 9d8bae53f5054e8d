"""Orders: what a purchase costs, which packages it makes, and everything that is wrong with it.

A quote is a pure function of catalog, account and order, so the page that shows a price and the ledger that takes the order agree.
Silent in the sources and decided here: an upgrade keeps the term and costs the difference of the plans for the days that are
left; traffic costs its price a day for the days that its plan has left; prices are rounded half up to 0.01.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

import msgspec
from msgspec import structs

from pipeline.account import Account
from pipeline.days import day_of, to_micros
from pipeline.packages import has_status
from schemas.billing import Amendment, Fault, Order
from schemas.catalog import Catalog, Plan, TrafficPackage
from schemas.topics import MESSAGE_BYTES_MAX
from schemas.wire import NAME_CHARS_MAX, Package, encode

_CENT, _ONE_DAY = Decimal("0.01"), timedelta(days=1)
_MULTIPLES_MAX = 1_000_000
_decode = msgspec.json.Decoder(Package).decode
#: JSON of all packages that a command may make or change: its outcome has them.
_PACKAGES_BYTES_MAX = MESSAGE_BYTES_MAX // 2
#: A term that begins later might end behind the calendar (9999-12-31): the catalog has terms of 36,600 days at most.
_EFFECTIVE_MAX = date(9000, 1, 1)


@dataclass(slots=True)
class Quote:
    """The price of an order, the packages as they will be, and its faults; packages and price hold only without any."""

    price: Decimal = Decimal(0)
    packages: list[Package] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, code: str, message: str) -> None:
        """One more reason."""
        self.faults.append(Fault(code, message))


def quote(catalog: Catalog, account: Account, order: Order) -> Quote:
    """What the order would do now. Payment is the wallet's business, and not looked at here."""
    result = Quote()
    plan = catalog.plans.get(order.plan) if order.plan is not None else None
    if order.plan is not None and plan is None:
        result.fault("unknown_plan", f"$.plan: {order.plan!r} is in no catalog")
    _check_day(account, order.effective, order, result)
    if order.package is None:
        base = _new_plan(account, order, plan if order.effective <= _EFFECTIVE_MAX else None, result)
    else:
        base = _existing_plan(catalog, account, order, plan, result)
    _add_traffic(catalog, account, order, base, result)
    _check_made(account, order, result)
    result.price = result.price.quantize(_CENT, rounding=ROUND_HALF_UP)
    return result


def _check_day(account: Account, effective: date, command: Order | Amendment, result: Quote) -> None:
    if effective > _EFFECTIVE_MAX:
        result.fault("effective_too_far", f"$.effective: {effective} is later than {_EFFECTIVE_MAX}")
    if effective < day_of(to_micros(command.at), account.time_zone):
        result.fault("effective_in_the_past", f"$.effective: {effective} is over in {account.time_zone}")


def _new_plan(account: Account, order: Order, plan: Plan | None, result: Quote) -> Package | None:
    if order.plan is None:
        result.fault("nothing_ordered", "$.plan: a plan, or a package to upgrade or to add traffic to, is missing")
    _check_workspaces(account, order.workspaces, result)
    if plan is None:
        return None
    _check_currency(account, plan, result)
    result.price += plan.price
    expires = order.effective + (plan.term_days - 1) * _ONE_DAY
    made = Package(
        package=order.id, account=order.account, kind="plan", plan=plan.key, workspaces=order.workspaces,
        quotas=dict(plan.quotas), effective=order.effective, expires=expires, ordered_at=order.at, price=plan.price,
        currency=plan.currency, order=order.id,
    )  # fmt: skip
    result.packages.append(made)
    return made


def _check_workspaces(account: Account, workspaces: tuple[str, ...], result: Quote) -> None:
    if not workspaces:
        result.fault("no_workspaces", "$.workspaces: at least one shares a package")
    for workspace in sorted(name for name, times in Counter(workspaces).items() if times > 1):
        result.fault("duplicate_workspace", f"$.workspaces: {workspace!r} is listed twice")
    for workspace in dict.fromkeys(workspaces):
        binding = account.bindings.get(workspace)
        if binding is None:
            result.fault("not_bound", f"$.workspaces: {workspace!r} is not bound to {account.account!r}")
        elif binding.plan != "commercial":
            result.fault("not_commercial", f"$.workspaces: {workspace!r} is on the Free plan; upgrade it first")


def _check_currency(account: Account, item: Plan | TrafficPackage, result: Quote) -> None:
    if item.currency != account.currency:
        result.fault(
            "wrong_currency", f"{item.key!r} is sold in {item.currency}, the account pays in {account.currency}"
        )


def _existing_plan(
    catalog: Catalog, account: Account, order: Order, plan: Plan | None, result: Quote
) -> Package | None:
    """The plan package that is upgraded, as it will be, or that gets traffic, as it is."""
    found = _running(account, order.package or "", order.effective, result)
    if order.workspaces:
        result.fault("not_allowed", "$.workspaces: those of the package stay; amend it to change them")
    if order.plan is None and not order.traffic:
        result.fault("nothing_ordered", "$.plan: neither an upgrade nor traffic")
    if found is None:
        return None
    if found.kind != "plan":
        result.fault("not_a_plan", f"$.package: {found.package!r} is a traffic package")
        return None
    if plan is None:
        return found
    _check_currency(account, plan, result)
    old = catalog.plans.get(found.plan or "")
    if old is None or plan.price <= old.price:
        result.fault("not_an_upgrade", f"$.plan: {plan.key!r} is no larger plan than {found.plan!r}")
        return found
    days = (found.expires - _begin(found, order)).days + 1
    difference = plan.price * old.term_days - old.price * plan.term_days
    result.price += difference * days / Decimal(plan.term_days * old.term_days)
    upgraded = structs.replace(found, plan=plan.key, quotas=dict(plan.quotas), price=plan.price)
    result.packages += succeed(account, found, upgraded, order.id, order)
    return result.packages[-1]


def _running(account: Account, name: str, effective: date, result: Quote) -> Package | None:
    """An ordered package that still covers the day."""
    found = account.packages.get(name)
    if found is None:
        result.fault("unknown_package", f"$.package: {account.account!r} has no package {name!r}")
    elif found.order is None:
        result.fault("not_ordered", f"$.package: {name!r} was not made by an order; change its document")
    elif found.status == "ended" or found.expires < effective:
        result.fault("package_ended", f"$.package: {name!r} does not cover {effective}")
    else:
        return found
    return None


def succeed(account: Account, old: Package, new: Package, name: str, command: Order | Amendment) -> list[Package]:
    """`old` ends before the command's day, and `new` follows it under another name: days before keep what they had."""
    attached = [p for p in account.packages_by_name if p.belongs_to == old.package]
    return [
        _ended(old, command.effective),
        *(structs.replace(p, belongs_to=name) for p in attached),
        structs.replace(new, package=name, effective=_begin(old, command), order=command.id),
    ]


def _begin(package: Package, command: Order | Amendment) -> date:
    """The first day of the package on which the command holds."""
    return max(package.effective, command.effective)


def _ended(package: Package, effective: date) -> Package:
    if package.effective >= effective:
        return structs.replace(package, status="ended")
    return structs.replace(package, expires=effective - _ONE_DAY)


def traffic_name(order: Order, key: str) -> str:
    """The package that an order of traffic makes; that of a plan has the order's own id."""
    return f"{order.id}.{key}"


def _add_traffic(catalog: Catalog, account: Account, order: Order, base: Package | None, result: Quote) -> None:
    for key, multiples in sorted(order.traffic.items()):
        item = catalog.traffic.get(key)
        if item is None:
            result.fault("unknown_traffic", f"$.traffic: {key!r} is in no catalog")
            continue
        if not 1 <= multiples <= _MULTIPLES_MAX:
            result.fault("invalid_multiples", f"$.traffic.{key}: {multiples} is not within 1 and {_MULTIPLES_MAX}")
            continue
        _check_currency(account, item, result)
        if base is None:
            continue
        effective = _begin(base, order)
        price = item.price_of(multiples) * ((base.expires - effective).days + 1)
        result.price += price
        result.packages.append(
            Package(
                package=traffic_name(order, key), account=order.account, kind="traffic", workspaces=base.workspaces,
                quotas={item.meter: item.quota * multiples}, effective=effective, expires=base.expires,
                ordered_at=order.at, price=price, currency=item.currency, order=order.id, belongs_to=base.package,
            )
        )  # fmt: skip


def amended(account: Account, amendment: Amendment) -> Quote:
    """The packages after an amendment; an ended plan takes the traffic that was added to it along."""
    result = Quote()
    _check_day(account, amendment.effective, amendment, result)
    found = _running(account, amendment.package, amendment.effective, result)
    if amendment.workspaces:
        _check_workspaces(account, amendment.workspaces, result)
        if found is not None:
            shared = structs.replace(found, workspaces=amendment.workspaces)
            result.packages += succeed(account, found, shared, amendment.id, amendment)
    elif found is not None:
        day = amendment.effective
        result.packages += (_ended(p, day) for p in _with_traffic(account.packages_by_name, found, day))
    _check_made(account, amendment, result)
    return result


def _check_made(account: Account, command: Order | Amendment, result: Quote) -> None:
    """What comes to be takes no other package's name, can be read again, for the state holds it, and fits into a record."""
    for made in [package for package in result.packages if package.order == command.id]:
        known = account.packages.get(made.package)
        # One that this very command made is a conflict of commands, and named as that.
        if known is not None and known.order != command.id:
            result.fault("id_taken", f"$.id: {account.account!r} has a package {made.package!r} already")
        if len(made.package) > NAME_CHARS_MAX:
            result.fault("invalid_id", f"$.id: the name of a package would have {len(made.package)} characters")
            continue
        try:
            _decode(encode(made))
        except msgspec.ValidationError as error:
            result.fault("invalid_package", f"$: package {made.package!r} cannot be: {error}")
        if not has_status(made):
            result.fault(
                "too_many_workspaces", f"$.workspaces: the quota status of {len(made.workspaces):,} is too large"
            )
    if sum(len(encode(package)) for package in result.packages) > _PACKAGES_BYTES_MAX:
        result.fault(
            "too_many_packages", f"$: the {len(result.packages)} packages that change are too large for an outcome"
        )


def _with_traffic(packages: Iterable[Package], plan: Package, day: date) -> Iterator[Package]:
    """Traffic that ended before the day stays as it is."""
    yield plan
    yield from (p for p in packages if p.belongs_to == plan.package and p.status == "active" and p.expires >= day)

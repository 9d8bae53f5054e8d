"""`drawdown package`, `workspace` and `wallet`: the purchase flow on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from msgspec import to_builtins

from agents.cli_common import ConfigOption, JsonOption, console, load, print_json
from agents.clickhouse import connect
from agents.probe import require_clickhouse
from agents.purchases import (
    account_now,
    amount_of,
    buy,
    conclude,
    confirm,
    counts_of,
    operator,
    packages_table,
)
from agents.quota import newest_quotas
from agents.settings import Settings
from agents.statements import month_of
from agents.tables import plain
from agents.wallets import wallet_of
from agents.workspaces import bind_workspace, workspaces_of
from pipeline.orders import amended
from schemas.billing import Amendment, Funded, Order

package = typer.Typer(help="Buy, see, upgrade, share and end packages.", no_args_is_help=True)
workspace = typer.Typer(help="Bind workspaces to accounts.", no_args_is_help=True)
wallet = typer.Typer(help="Money of an account: cash, prepaid cards, vouchers.", no_args_is_help=True)

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
IdOption = Annotated[str | None, typer.Option("--id", help="The same id again is the same command.")]
FromOption = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="Default: today.")]
PayOption = Annotated[list[str] | None, typer.Option("--pay", help="POCKET=AMOUNT; default: all in cash.")]
TrafficOption = Annotated[list[str] | None, typer.Option("--traffic", help="KEY=MULTIPLES, e.g. logs=30.")]
SharedOption = Annotated[list[str] | None, typer.Option("--workspace", help="Once each, in draw-down order.")]


@package.command("buy")
def package_buy(
    account: str, plan: Annotated[str, typer.Option(help="startup, development or enterprise.")],
    workspaces: SharedOption = None, traffic: TrafficOption = None, pay: PayOption = None, start: FromOption = None,
    identity: IdOption = None, yes: YesOption = False, as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Buy a plan for workspaces of the account, in draw-down order, with or without traffic packages."""
    settings = load(config)
    order = _order(
        settings, account, start, identity, plan=plan, workspaces=tuple(workspaces or ()),
        traffic=counts_of(traffic or [], "--traffic"),
    )  # fmt: skip
    buy(settings, order, pay or [], yes=yes, as_json=as_json)


@package.command("upgrade")
def package_upgrade(
    account: str, package: str, plan: Annotated[str, typer.Option(help="development or enterprise.")],
    pay: PayOption = None, start: FromOption = None, identity: IdOption = None, yes: YesOption = False,
    as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Replace a plan by a larger one for the rest of its term."""
    settings = load(config)
    buy(
        settings,
        _order(settings, account, start, identity, plan=plan, package=package),
        pay or [],
        yes=yes,
        as_json=as_json,
    )


@package.command("add-traffic")
def package_add_traffic(
    account: str, package: str, traffic: TrafficOption = None, pay: PayOption = None, start: FromOption = None,
    identity: IdOption = None, yes: YesOption = False, as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Add traffic packages to a plan; they are valid as long as it is."""
    settings, counts = load(config), counts_of(traffic or [], "--traffic")
    order = _order(settings, account, start, identity, package=package, traffic=counts)
    buy(settings, order, pay or [], yes=yes, as_json=as_json)


@package.command("share")
def package_share(
    account: str, package: str, workspaces: SharedOption = None, start: FromOption = None, identity: IdOption = None,
    yes: YesOption = False, as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Share a package by other workspaces, or in another order."""
    _amend(config, account, package, workspaces or [], start, identity, yes=yes, as_json=as_json)


@package.command("end")
def package_end(
    account: str, package: str, start: FromOption = None, identity: IdOption = None, yes: YesOption = False,
    as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """End a package before a day; an ended plan takes its traffic packages along."""
    _amend(config, account, package, [], start, identity, yes=yes, as_json=as_json)


@package.command("list")
def package_list(account: str, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """The account's packages, the days that are left, and what is used today."""
    settings = load(config)
    known = account_now(settings, account)
    require_clickhouse(settings)
    today = known.today
    with connect(settings) as client:
        used = {(row["package"], row["meter"]): row["used"] for row in newest_quotas(client, account, today)}
    packages = sorted(known.account.packages.values(), key=lambda p: (p.effective, p.package))
    if as_json:
        print_json([to_builtins(p) | {"used": {m: used.get((p.package, m), 0) for m in p.quotas}} for p in packages])
        return
    table = packages_table(
        packages,
        days_left=lambda p: str(max(0, (p.expires - today).days + 1) if p.status == "active" else 0),
        used_today=lambda p: "\n".join(f"{used.get((p.package, m), 0):,}" for m in p.quotas),
    )
    console.print(table)


def _order(settings: Settings, account: str, start: datetime | None, identity: str | None, **more: Any) -> Order:
    """An order without its price, which is quoted next."""
    known = account_now(settings, account)
    return Order(
        account=account, id=identity or f"order-{uuid4()}", effective=start.date() if start else known.today,
        price=Decimal(0), payment={}, operator=operator(), at=known.now, **more,
    )  # fmt: skip


def _amend(
    config: Path | None, account: str, package: str, workspaces: list[str], start: datetime | None,
    identity: str | None, *, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    settings = load(config)
    known = account_now(settings, account)
    effective = start.date() if start else known.today
    amendment = Amendment(
        account=account, id=identity or f"amendment-{uuid4()}", package=package, workspaces=tuple(workspaces),
        effective=effective, operator=operator(), at=known.now,
    )  # fmt: skip
    known.require_own_names(amendment)
    question = f"Share {package} by {' > '.join(workspaces)}" if workspaces else f"End {package}"
    confirm(f"{question} from {effective} on?", yes=yes)
    conclude(settings, amendment, amended(known.account, amendment).faults, as_json=as_json)


@workspace.command("bind")
def workspace_bind(
    name: str, account: Annotated[str, typer.Option(help="Who pays for it.")],
    title: Annotated[str | None, typer.Option(help="Shown to people.")] = None,
    plan: Annotated[str | None, typer.Option(help="free or commercial.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA name; the account's.")] = None,
    currency: Annotated[str | None, typer.Option(help="Such as CNY; the account's.")] = None,
    site: Annotated[str | None, typer.Option(help="cn or intl; the account's.")] = None,
    retention: Annotated[list[str] | None, typer.Option(help="METER=DAYS: default retention; repeatable.")] = None,
    as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Bind a workspace to an account, or change its binding; what is left out stays (new: the account's own, Commercial)."""
    settings = load(config)
    given = {"name": title, "plan": plan, "time_zone": time_zone, "currency": currency, "site": site}
    retentions = counts_of(retention or [], "--retention")
    bound = bind_workspace(settings, name, account, {k: v for k, v in given.items() if v is not None}, retentions)
    if as_json:
        print_json(to_builtins(bound))
    else:
        console.print(f"[green]bound[/] {bound.workspace} to {bound.account}, {bound.plan}, {bound.time_zone}")


@workspace.command("list")
def workspace_list(
    account: Annotated[str | None, typer.Argument(help="All accounts when left out.")] = None,
    as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Workspaces and the accounts that pay for them."""
    bindings = workspaces_of(load(config), account)
    if as_json:
        print_json([to_builtins(b) for b in bindings])
        return
    names = ("workspace", "account", "name", "plan", "time zone", "retention, days", "currency", "site")
    table = plain(*names)
    for b in bindings:
        retention = ", ".join(f"{meter} {days}" for meter, days in b.retention_days.items())
        table.add_row(b.workspace, b.account, b.name, b.plan, b.time_zone, retention, b.currency, b.site)
    console.print(table)


@wallet.command("fund")
def wallet_fund(
    account: str, pocket: Annotated[str, typer.Argument(help="cash, card:ID, voucher:ID or threshold:ID.")],
    amount: Annotated[str, typer.Argument(help="Such as 100.00; cards in hundreds.")],
    threshold: Annotated[str, typer.Option(help="Of a threshold voucher: usable from this charge on.")] = "0",
    expires: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day.")] = None,
    identity: IdOption = None, yes: YesOption = False, as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Money comes in; what the account owes is cleared first."""
    settings = load(config)
    known = account_now(settings, account)
    funded = Funded(
        account=account, id=identity or f"funding-{uuid4()}", pocket=pocket, amount=amount_of(amount),
        operator=operator(), at=known.now, threshold=amount_of(threshold), expires=expires.date() if expires else None,
    )  # fmt: skip
    confirm(f"Put {funded.amount:,} {known.account.currency} into {pocket}?", yes=yes)
    conclude(settings, funded, as_json=as_json)


@wallet.command("show")
def wallet_show(
    account: str, last: Annotated[int, typer.Option(help="Newest transactions to show.", min=0)] = 10,
    as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """Balances, what is owed, and the newest transactions."""
    settings = load(config)
    require_clickhouse(settings)
    with connect(settings) as client:
        seen = wallet_of(client, account, last)
    if as_json:
        print_json(seen.document())
    else:
        console.print(*seen.tables(), sep="\n")


def statements(
    account: str,
    month: Annotated[datetime | None, typer.Option(formats=["%Y-%m"], help="Default: this month, in UTC.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every line into this file.")] = None,
    as_json: JsonOption = False, config: ConfigOption = None,
) -> None:  # fmt: skip
    """The account's settled days of a month and what each is payable."""
    settings = load(config)
    require_clickhouse(settings)
    first = (month or datetime.now(UTC)).date().replace(day=1)
    with connect(settings) as client:
        found = month_of(client, account, first)
    if csv is not None:
        with csv.open("w", newline="", encoding="utf-8") as output:
            found.write_csv(output)
    if as_json:
        print_json(
            {
                "account": account,
                "month": f"{first:%Y-%m}",
                "amount": found.amount,
                "days": found.days,
                "lines": found.lines,
            }
        )
    else:
        console.print(found.table())

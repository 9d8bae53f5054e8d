"""One worker process: the Faust app with its partitions, the registry, the sink and `/metrics`, on one event loop."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import Any

import structlog

from agents import health as codes
from agents.app import create_app
from agents.drawdown import DrawdownStage
from agents.errors import EXIT_DONE, EXIT_FAILED
from agents.failures import place_of, report
from agents.garbage import tune_memory
from agents.health import Health
from agents.lag import LagWatch
from agents.metrics import INVARIANT_VIOLATIONS, METERS, PACKAGE_UTILIZATION, READY
from agents.parsers import binding_parser, package_parser, rules_gone, rules_parser
from agents.partitions import Partitions
from agents.probes import serving
from agents.registry import Registry
from agents.route import DocumentInlet, UsageInlet, limits_of
from agents.settings import Settings
from agents.sink import Sink
from pipeline.law import LawBroken
from pipeline.routing import Router
from pipeline.warm import warm_up
from schemas.catalog import load_catalog
from schemas.topics import ACCOUNT_EVENTS, ALERT_RULES, PACKAGES, USAGE, WORKSPACES

log = structlog.get_logger()


def run(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT (exit code 0), or until something fails that a restart has to mend (1)."""
    tune_memory()
    return asyncio.run(Worker(settings).work())


class Worker:
    """Wires everything together."""

    def __init__(self, settings: Settings, *, sink: bool = True) -> None:
        self._settings = settings
        catalog = load_catalog(settings.catalog)
        warm_up(catalog)
        METERS.know(catalog.meters)
        PACKAGE_UTILIZATION.series_max = settings.package_series_max
        self._health = Health(settings.stuck_after)
        READY.set_function(lambda: not self._health.reasons())
        router = Router(catalog, limits_of(settings))
        self._registry = Registry(settings, router)
        self._sink = Sink(settings, self._health) if sink else None
        self._failure: asyncio.Future[Exception]
        usage, workspaces, packages, rules, account_events = (
            settings.topic_prefix + topic.name for topic in (USAGE, WORKSPACES, PACKAGES, ALERT_RULES, ACCOUNT_EVENTS)
        )

        def document(topic: str, parse: Any, gone: Any = None) -> Any:
            return lambda partition: DocumentInlet(settings, topic, partition, parse, gone)

        stages: dict[str, Any] = {
            usage: lambda partition: UsageInlet(settings, usage, partition, router, self._registry),
            workspaces: document(workspaces, binding_parser(catalog)),
            packages: document(packages, package_parser(catalog)),
            rules: document(rules, rules_parser(catalog), rules_gone),
            account_events: lambda partition: DrawdownStage(settings, partition, catalog),
        }
        self._partitions = Partitions(settings, stages, self._health)
        self._app = create_app(settings, self._partitions, list(stages))

    async def work(self) -> int:
        """Run until a signal or a failure; everything is closed afterwards."""
        with serving(self._health, self._settings.metrics_host, self._settings.metrics_port):
            beat = asyncio.ensure_future(self._health.beat())
            try:
                return await self._work()
            finally:
                beat.cancel()

    async def _work(self) -> int:
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._partitions.crash = self._fail
        await self._registry.start()
        tasks = [self._guard(self._registry.follow()), self._guard(self._watch_app())]
        if self._sink is not None:
            tasks.append(self._guard(self._sink.run()))
        await self._app.start()
        readers = {"ledger": self._app.positions} | ({"sink": self._sink.positions} if self._sink else {})
        tasks.append(self._guard(LagWatch(self._settings, self._health, readers).run()))
        log.info("worker started", kafka=self._settings.kafka, group=self._settings.group)
        waiting: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        await asyncio.wait([waiting, self._failure], return_when=asyncio.FIRST_COMPLETED)
        if not self._failure.done():
            self._health.fail(codes.STOPPING)
            await self._guard(self._partitions.leave())
        failed = self._failure.done()
        await self._close([waiting, *tasks])
        if failed and isinstance(self._failure.result(), LawBroken) and self._settings.metrics_port:
            await self._linger(stop)
        return EXIT_FAILED if failed else EXIT_DONE

    async def _linger(self, stop: asyncio.Event) -> None:
        """Tell Prometheus and probes of a broken law before the process is gone. Nothing is owned here any more."""
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), self._settings.linger)

    async def _close(self, tasks: list[asyncio.Future[Any]]) -> None:
        try:
            await asyncio.wait_for(self._app.stop(), timeout=10)
        except TimeoutError:
            log.warning("the Faust app did not stop in time")
        if self._sink is not None:
            await self._sink.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._registry.stop()

    def _guard(self, work: Any) -> asyncio.Future[Any]:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001  # whatever it is, the worker stops
                self._fail(error)

        return asyncio.ensure_future(guarded())

    async def _watch_app(self) -> None:
        """Faust keeps a crash to itself; the worker ends with it."""
        while not self._app.crashed:  # noqa: ASYNC110  # Faust has a flag and no event
            await asyncio.sleep(0.2)
        raise self._app.crash_reason or RuntimeError("the Faust app crashed")

    def _fail(self, error: Exception) -> None:
        """The first failure ends the worker; nothing that is not committed is acknowledged."""
        if self._failure.done():
            return
        self._failure.set_result(error)
        self._partitions.abandon()
        report(error)
        if isinstance(error, LawBroken):
            INVARIANT_VIOLATIONS.inc()
            self._health.fail(codes.LAW, law=str(error), **place_of(error))
        else:
            self._health.fail(codes.STOPPING, error=f"{type(error).__name__}: {error}", **place_of(error))

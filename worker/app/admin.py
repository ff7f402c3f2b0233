"""The process of `badges admin`: real services for the HTTP application, and the server around it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import time_ns
from typing import Any, Final, cast

import structlog
import uvicorn

from worker.admin.app import build
from worker.admin.applied import Applied
from worker.admin.outlet import Outlet
from worker.admin.panel.frame import warm
from worker.admin.services import Services
from worker.admin.sessions import LONGEST_SECONDS
from worker.app.awards import Awards
from worker.app.catalog_desk import CatalogDesk
from worker.app.connections import BoundedConnection
from worker.app.panel import PanelDesk
from worker.app.people_desk import PeopleAnswers
from worker.app.plans import HeadPlans
from worker.app.profiles import GatheredProfiles
from worker.app.rehearsal import Rehearsals
from worker.app.services import check_surroundings, open_store, until_schema
from worker.app.vitals import Pulse, vitals
from worker.config import Settings, is_loopback
from worker.errors import OperatorError, TransientError
from worker.metrics import HttpMetrics
from worker.store.pool import SCHEMA
from worker.store.postgres import PostgresStore
from worker.stream.producer import open_publisher

log = structlog.get_logger(__name__)

_CONNECTIONS: Final = 10
#: How long Kafka may take to store events while a request waits, seconds.
_PUBLISH_SECONDS: Final = 5.0
_TIDY_SECONDS: Final = 3600.0
#: How long requests that run may take to end when the process is told to, seconds.
_FINISH_SECONDS: Final = 5


class Admin:
    """The API and the panel on one port, its metrics and health on another.

    `port` and `health_port` are those taken where 0 was asked for.
    """

    def __init__(self, settings: Settings, *, schema: str = SCHEMA) -> None:
        self.settings = settings
        self.schema = schema
        self.port = 0
        self.health_port = 0
        self.metrics = HttpMetrics()
        self._pulse = Pulse()
        self._server: uvicorn.Server | None = None
        self._stop = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Whether requests are answered."""
        return self._server is not None and self._server.started

    def stop(self) -> None:
        """Ask for the end; safe to call from a signal handler."""
        self._stop.set()
        if self._server is not None:
            self._server.should_exit = True

    async def run(self) -> None:
        """Serve until `stop`. Raises OperatorError where it may not be served so."""
        check_surroundings(self.settings)
        listening = _listen(self.settings)
        self.port = listening.getsockname()[1]
        try:
            async with (
                self._seen(),
                self._services() as (services, desk),
                _running(self._send_away(services), "listeners"),
            ):
                server = self._server = uvicorn.Server(_config(services, self.settings, desk, self.metrics))
                log.info("admin_served", host=self.settings.admin_host, port=self.port)
                if not self._stop.is_set():
                    await _serve(server, listening)
        finally:
            listening.close()
            log.info("admin_stopped")

    async def _send_away(self, services: Services) -> None:
        """End the streams at the stop: a request that never ends would be waited for."""
        await self._stop.wait()
        await services.awards.close()

    @asynccontextmanager
    async def _seen(self) -> AsyncIterator[None]:
        """Metrics and health beside the block. Where their port is taken the API is served all the same."""
        async with AsyncExitStack() as stack:
            where = self.settings.metrics_host, self.settings.admin_metrics_port
            try:
                self.health_port = stack.enter_context(
                    vitals(*where, registry=self.metrics.registry, pulse=self._pulse, ready=self._ready)
                )
            except OperatorError as error:
                told = "the API is served without; set BADGES_ADMIN_METRICS_PORT to a free port"
                log.warning("metrics_not_served", why=error.message, help=told)
            await stack.enter_async_context(_running(self._keep_beating(), "pulse"))
            yield

    async def _keep_beating(self) -> None:
        while True:
            self._pulse.beat()
            await asyncio.sleep(1.0)

    def _ready(self) -> str | None:
        return self._pulse.fault() if self.serving else "starting"

    @asynccontextmanager
    async def _services(self) -> AsyncIterator[tuple[Services, PanelDesk]]:
        async with open_store(
            self.settings, name="badges admin", connections=_CONNECTIONS, schema=self.schema
        ) as store:
            await until_schema(store)
            await refuse_open(store, self.settings)
            await asyncio.to_thread(warm)
            plans = HeadPlans(store)
            outlet = Outlet(partial(open_publisher, self.settings, timeout_seconds=_PUBLISH_SECONDS))
            async with plans.following(), _running(outlet.run(), "outlet"), _running(_tidy(store), "tidy"):
                services = services_on(store, plans, outlet, self.settings)
                desk = PanelDesk(store, plans, self.settings, now=services.now)
                await desk.open()
                try:
                    yield services, desk
                finally:
                    await desk.close()
                    await services.awards.close()


def services_on(store: PostgresStore, plans: HeadPlans, outlet: Outlet, settings: Settings) -> Services:
    """The real services over a store; `awards` is to be closed before it."""
    return Services(
        store=store,
        plans=plans,
        outlet=outlet,
        applied=Applied(store),
        catalog=CatalogDesk(store, plans, settings),
        profiles=GatheredProfiles(store),
        awards=Awards(store),
        people=PeopleAnswers(store),
        rehearsal=Rehearsals(store, settings),
        now=lambda: time_ns() // 1000,
    )


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run a task beside the block; cancelled at its end."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _tidy(store: PostgresStore) -> None:
    """Forget requests that nobody sends again, and sessions that are over anyway, now and then."""
    while True:
        try:
            await store.forget_requests()
            await store.forget_sessions(LONGEST_SECONDS)
        except TransientError as error:
            log.info("requests_kept", reason=error.message)
        await asyncio.sleep(_TIDY_SECONDS)


async def refuse_open(store: PostgresStore, settings: Settings) -> None:
    """Raise OperatorError where others could reach an API without tokens; warn where this machine may use it so."""
    if settings.admin_token is not None or settings.oidc_issuer is not None or await store.any_token():
        return
    if not is_loopback(settings.admin_host):
        raise OperatorError(
            f"Nobody could be told from anybody on {settings.admin_host}:{settings.admin_port}: there is no token.",
            help="run `badges tokens create --name me --role admin`, or set BADGES_ADMIN_TOKEN or BADGES_OIDC_ISSUER",
        )
    log.warning("admin_open", why="no token was ever made; everybody on this machine is admin until one is")


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.admin_host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.admin_host, settings.admin_port))
    except OSError as error:
        listening.close()
        raise OperatorError(
            f"The API cannot listen on {settings.admin_host}:{settings.admin_port}: {error.strerror or error}.",
            help="set BADGES_ADMIN_PORT to a free port (0 takes any) or BADGES_ADMIN_HOST to an own address",
        ) from None
    return listening


def _config(services: Services, settings: Settings, desk: PanelDesk, metrics: HttpMetrics) -> uvicorn.Config:
    return uvicorn.Config(
        build(services, settings, desk=desk, metrics=metrics),
        log_config=None,  # its lines go where all of ours go
        access_log=False,
        server_header=False,
        lifespan="off",
        loop="none",
        timeout_graceful_shutdown=_FINISH_SECONDS,
        http=cast("type[asyncio.Protocol]", partial(BoundedConnection, metrics=metrics)),
    )


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    """Serve without uvicorn's own signal handlers: the command has them."""
    options: dict[str, Any] = {"sockets": [listening]}
    await server._serve(**options)  # noqa: SLF001 (`serve` would take the process's signals)

"""The composition root: settings become a running service, and an orderly end of it."""

import asyncio

import asyncpg
import structlog

from outreach.background import until_cancelled
from outreach.permissions import CAMPAIGN_ROLES
from outreach.postgres.outage import STORE_ERRORS
from outreach.postgres.pool import create_pool
from outreach.rpc.interceptors.authentication import AuthenticationInterceptor
from outreach.rpc.server import OPEN_SERVICES, RpcServer, Service
from outreach.serving import closed, follow_health, stop_on_signals
from outreach.v1 import export_pb2, export_pb2_grpc
from services.export.rpc.servicer import ExportServicer, ExportTerms
from services.export.settings import Settings
from services.export.store import Pool
from services.export.store.steps import QUERIES, caller_by_key

_log = structlog.get_logger(__name__)

_WAIT_SECONDS = 0.5
#: What ended streams have for their last words.
_END_SECONDS_MAX = 2.0


def server_of(settings: Settings, pool: Pool, servicer: ExportServicer) -> RpcServer:
    """The one port."""
    return RpcServer(
        host=settings.export_grpc_host,
        port=settings.export_grpc_port,
        services=[
            Service(
                export_pb2.DESCRIPTOR.services_by_name["ExportService"].full_name,
                lambda server: export_pb2_grpc.add_ExportServiceServicer_to_server(
                    servicer, server
                ),
            )
        ],
        authentication=AuthenticationInterceptor(
            lambda key_hash: caller_by_key(pool, key_hash),
            roles_allowed=lambda _method: CAMPAIGN_ROLES,
            open_services=OPEN_SERVICES,
        ),
    )


def servicer_of(settings: Settings, pool: Pool) -> ExportServicer:
    """What serves it."""
    return ExportServicer(
        pool,
        ExportTerms(
            streams_max=settings.export_streams_max,
            write_seconds_max=settings.export_write_seconds_max,
        ),
    )


async def drain(server: RpcServer, servicer: ExportServicer, *, seconds_max: float) -> None:
    """Health off; exports that are under way may end, and are ended after that time."""
    await server.set_serving(serving=False)
    await servicer.finished(seconds_max=seconds_max)
    await server.drain(end_streams=servicer.end_streams, grace_seconds=_END_SECONDS_MAX)


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Waits for PostgreSQL, and for the campaign service to make views and role."""
    stopping = asyncio.Event()
    stop_on_signals(stopping)
    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(started_pool(settings))
        stopped = tasks.create_task(stopping.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        pool = await starting
        try:
            await _serve(settings, pool, stopping)
        finally:
            stopped.cancel()
            await closed(pool)


async def _serve(settings: Settings, pool: Pool, stopping: asyncio.Event) -> None:
    servicer = servicer_of(settings, pool)
    server = server_of(settings, pool, servicer)
    try:
        async with asyncio.TaskGroup() as tasks:
            await server.start()
            health = tasks.create_task(
                until_cancelled("health", follow_health(pool, [server])), name="health"
            )
            await stopping.wait()
            _log.info("draining")
            health.cancel()
            await drain(server, servicer, seconds_max=settings.export_drain_seconds_max)
    except BaseException:
        # A server that is left open fails once more, without a loop.
        await server.drain(end_streams=servicer.end_streams, grace_seconds=0)
        raise
    _log.info("stopped")


async def started_pool(settings: Settings) -> Pool:
    """Connections as a role that can read the views.

    Raises:
        OSError, asyncpg.PostgresError: not within `export_start_seconds_max`, and why.
    """
    loop = asyncio.get_running_loop()
    give_up_seconds = loop.time() + settings.export_start_seconds_max
    told = ""
    while True:
        try:
            return await _pool(settings)
        except STORE_ERRORS as error:
            if loop.time() > give_up_seconds:
                raise
            if type(error).__name__ != told:
                told = type(error).__name__
                _log.warning("export waits for postgres", error=told)
        await asyncio.sleep(_WAIT_SECONDS)


async def _pool(settings: Settings) -> Pool:
    pool: asyncpg.Pool[asyncpg.Record] = await create_pool(
        settings.export_postgres_dsn.get_secret_value(),
        application_name="export",
        connections_min=1,
        connections_max=settings.export_postgres_connections_max,
    )
    try:
        await pool.fetchval(QUERIES["readable"])
    except BaseException:
        pool.terminate()
        raise
    return pool

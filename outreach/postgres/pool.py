"""Connections to PostgreSQL, with every limit and time-out stated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

# What is measured, tested and shipped (containers, embedded server) is this major version.
SERVER_MAJOR_MIN = 18
_CONNECT_RETRY_SECONDS = 0.2


class PostgresUnavailable(Exception):
    """No connection within the time allowed; the cause is the last attempt's error."""


class PostgresTooOld(Exception):
    """The server's major version is below `SERVER_MAJOR_MIN`."""

    def __init__(self, found: str) -> None:
        super().__init__(f"PostgreSQL {SERVER_MAJOR_MIN} or newer is needed, the server is {found}")


async def create_pool(
    dsn: str,
    *,
    application_name: str,
    connections_min: int = 2,
    connections_max: int = 20,
    connect_seconds_max: float = 10.0,
    command_seconds_max: float = 30.0,
    idle_in_transaction_seconds_max: float = 20.0,
    idle_connection_seconds_max: float = 300.0,
    statement_cache_entries_max: int = 512,
    init: Callable[[Connection[Record]], Coroutine[Any, Any, None]] | None = None,
) -> Pool[Record]:
    """A pool of connections to a server that is new enough.

    Args:
        dsn: where the database is.
        application_name: shown by the server in `pg_stat_activity`; the service's name.
        connections_min: kept open.
        connections_max: at most; who finds none free waits.
        connect_seconds_max: for one connection to be made.
        command_seconds_max: for one statement, unless the call says otherwise (COPY does); the
            statement is then cancelled on the server too.
        idle_in_transaction_seconds_max: a transaction whose owner hangs, or can't be heard, is ended by the
            server: it may hold the row that everybody else waits for.
        idle_connection_seconds_max: an unused connection above the minimum is closed.
        statement_cache_entries_max: prepared statements kept per connection.
        init: called with each new connection, for type codecs.

    Raises:
        PostgresTooOld: the server's version is below 18.
        OSError, asyncpg.PostgresError, TimeoutError: no connection.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=connections_min,
        max_size=connections_max,
        timeout=connect_seconds_max,
        command_timeout=command_seconds_max,
        max_inactive_connection_lifetime=idle_connection_seconds_max,
        statement_cache_size=statement_cache_entries_max,
        # Cached statements live as long as their connection; the cache's size is the limit.
        max_cached_statement_lifetime=0,
        init=init,
        server_settings={
            "application_name": application_name,
            "idle_in_transaction_session_timeout": f"{idle_in_transaction_seconds_max * 1000:.0f}",
            # A host that is gone without a word is noticed after 25 s, and its locks are free.
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "timezone": "UTC",
            # The exports spell times by it.
            "datestyle": "ISO",
            "jit": "off",
        },
    )
    try:
        async with pool.acquire() as connection:
            check_server_version(connection)
    except BaseException:
        pool.terminate()
        raise
    return pool


def check_server_version(connection: Connection[Any] | PoolConnectionProxy[Any]) -> None:
    """Refuse a server that is too old, at the start and with a clear text.

    Raises:
        PostgresTooOld: below `SERVER_MAJOR_MIN`.
    """
    version = connection.get_server_version()
    if version.major < SERVER_MAJOR_MIN:
        raise PostgresTooOld(f"{version.major}.{version.minor}")


async def connect_when_ready(dsn: str, *, wait_seconds_max: float) -> Connection[Record]:
    """One connection, waiting for a server that is still starting or not reachable yet.

    Raises:
        PostgresUnavailable: it did not come up in time.
        asyncpg.PostgresError: it is up and refuses us (password, database).
    """
    last_error: Exception | None = None
    try:
        async with asyncio.timeout(wait_seconds_max):
            while True:
                try:
                    return await asyncpg.connect(dsn, timeout=wait_seconds_max)
                except (
                    OSError,
                    asyncpg.CannotConnectNowError,
                    asyncpg.PostgresConnectionError,  # it ended, or was killed, in the middle of the handshake
                ) as error:
                    last_error = error
                await asyncio.sleep(_CONNECT_RETRY_SECONDS)
    except TimeoutError:
        raise PostgresUnavailable(f"no connection within {wait_seconds_max:g} s") from last_error

"""Real servers for tests: started once a session, clean for each test, gone afterwards.

With OUTREACH_POSTGRES_DSN or OUTREACH_NATS_URL set, those servers are used instead; the
PostgreSQL user must then be allowed to create databases.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import nats
import pytest
from hypothesis import HealthCheck, settings

from outreach.postgres.migrate import migrate
from tests.servers import ServerThread, new_nats, new_postgres

# How long an example takes says something of the machine only.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A shell starts what runs in its background with SIGINT ignored, and all that is started from here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _with_database(dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The session's PostgreSQL; its own database stays empty (see `database_dsn`)."""
    given = os.environ.get("OUTREACH_POSTGRES_DSN")
    if given:
        yield given
        return
    server = new_postgres()
    thread = ServerThread(server)
    thread.start()
    try:
        yield server.dsn
    finally:
        thread.stop()


@pytest.fixture(scope="session")
def template_database(postgres_dsn: str) -> Iterator[str]:
    """The name of a database with all migrations applied, to copy from; nobody connects to it."""
    name = f"outreach_template_{uuid.uuid4().hex}"

    async def make() -> None:
        await _execute(postgres_dsn, f'CREATE DATABASE "{name}"')
        await migrate(_with_database(postgres_dsn, name))

    asyncio.run(make())
    yield name
    asyncio.run(_execute(postgres_dsn, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
async def database_dsn(postgres_dsn: str, template_database: str) -> AsyncIterator[str]:
    """A database of this test alone, with the current schema and no rows."""
    name = f"outreach_test_{uuid.uuid4().hex}"
    # FILE_COPY would flush everything to disk; WAL_LOG is made for small templates.
    statement = f'CREATE DATABASE "{name}" TEMPLATE "{template_database}" STRATEGY wal_log'
    await _execute(postgres_dsn, statement)
    try:
        yield _with_database(postgres_dsn, name)
    finally:
        await _execute(postgres_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def nats_server_url() -> Iterator[str]:
    """The session's NATS, with whatever the tests before left (see `nats_url`)."""
    given = os.environ.get("OUTREACH_NATS_URL")
    if given:
        yield given
        return
    server = new_nats()
    thread = ServerThread(server)
    thread.start()
    try:
        yield server.url
    finally:
        thread.stop()


@pytest.fixture
async def nats_url(nats_server_url: str) -> str:
    """The session's NATS with no stream in it (tests run one after another)."""
    connection = await nats.connect(nats_server_url)
    try:
        jetstream = connection.jetstream()
        for stream in await jetstream.streams_info():
            assert stream.config.name is not None
            await jetstream.delete_stream(stream.config.name)
    finally:
        await connection.close()
    return nats_server_url

"""PostgreSQL that goes at awkward moments is told as an outage."""

import asyncio

import asyncpg
import pytest

from outreach.postgres.outage import is_outage
from outreach.postgres.pool import PostgresUnavailable, connect_when_ready, create_pool
from services.campaign.store import Connection
from tests.waiting import eventually


async def test_between_two_statements_of_one_connection(database_dsn: str) -> None:
    pool = await create_pool(database_dsn, application_name="test")
    other = await asyncpg.connect(database_dsn)
    try:
        async with pool.acquire() as connection:
            await connection.execute("SELECT 1")
            await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            await eventually(lambda: _is_lost(connection), 60, "the connection is lost")
            with pytest.raises(asyncpg.InterfaceError, match="released back to the pool") as raised:
                await connection.fetchval("SELECT 1")
        assert is_outage(raised.value)
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        await other.close()
        pool.terminate()


def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back already
        return True


async def test_in_the_handshake_a_start_waits() -> None:
    tries = 0

    async def go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await reader.readexactly(8)  # SSLRequest
        writer.write(b"N")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(go, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PostgresUnavailable) as raised:
            await connect_when_ready(f"postgresql://a@127.0.0.1:{port}/a", wait_seconds_max=2)
    assert tries > 1
    assert is_outage(raised.value.__cause__ or raised.value)

"""COPY on a connection whose server has said that it goes, and has not closed it yet."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from outreach.postgres.copying import copying
from outreach.postgres.outage import is_outage
from outreach.postgres.pool import create_pool
from services.campaign.store import Connection, Pool

_FIELDS = {b"S": b"FATAL", b"V": b"FATAL", b"C": b"57P01", b"M": b"terminating connection"}
_BODY = b"".join(name + value + b"\0" for name, value in _FIELDS.items()) + b"\0"
# PostgreSQL's protocol, "Message Formats": ErrorResponse.
LAST_WORDS = b"E" + struct.pack("!i", 4 + len(_BODY)) + _BODY


class Between:
    """Forwards to PostgreSQL, and can put words in its mouth."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._clients: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        above, below = await asyncio.open_connection(*self._target)
        self._clients.append(writer)
        ways = {
            asyncio.create_task(self._forward(reader, below)),
            asyncio.create_task(self._forward(above, writer)),
        }
        self._tasks |= ways
        await asyncio.wait(ways)
        writer.close()
        below.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def say_last_words(self) -> None:
        """To all who are connected."""
        for client in self._clients:
            client.write(LAST_WORDS)
            await client.drain()
        self._clients.clear()


@asynccontextmanager
async def _between(dsn: str) -> AsyncIterator[tuple[Between, str]]:
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    between = Between(parts.hostname, parts.port)
    server = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        place = f"{parts.username}@127.0.0.1:{port}" if parts.username else f"127.0.0.1:{port}"
        yield between, parts._replace(netloc=place).geturl()


async def _drop(_: bytes) -> None:
    return


async def _copy_out(connection: Connection) -> None:
    with copying(connection):
        await connection.copy_from_query("SELECT 1", output=_drop)


async def _copy_in(connection: Connection) -> None:
    with copying(connection):
        await connection.copy_to_table("somewhere", source=_nothing())


async def _nothing() -> AsyncIterator[bytes]:
    yield b""


@pytest.mark.parametrize("copy", [_copy_out, _copy_in])
async def test_it_is_an_outage_and_the_next_connection_works(
    database_dsn: str, copy: Callable[[Connection], Awaitable[None]]
) -> None:
    async with _between(database_dsn) as (between, dsn):
        pool = await create_pool(dsn, application_name="test", connections_min=1, connections_max=1)
        try:
            with pytest.raises(Exception, match=r"clos|cannot switch to") as raised:
                await _once(pool, copy, between.say_last_words)
            assert is_outage(raised.value)
            await _once(pool, copy)
        finally:
            pool.terminate()


async def _once(
    pool: Pool,
    copy: Callable[[Connection], Awaitable[None]],
    before: Callable[[], Awaitable[None]] | None = None,
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("CREATE TEMP TABLE somewhere (a int) ON COMMIT DROP")
        if before is not None:
            await before()
            # For the client to have read it; if it has not, it waits for an answer, and fails too late.
            await asyncio.sleep(0.3)
        await copy(connection)

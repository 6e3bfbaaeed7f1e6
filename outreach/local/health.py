"""Health checks of the local stack's parts: true once a part answers, False while it does not."""

from __future__ import annotations

import asyncio

import asyncpg

_CALL_SECONDS_MAX = 2.0
_HEAD_BYTES_MAX = 64


async def http_healthy(port: int, path: str, *, host: str = "127.0.0.1") -> bool:
    """Whether a GET of `path` is answered with status 200."""
    try:
        async with asyncio.timeout(_CALL_SECONDS_MAX):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode("ascii"))
                await writer.drain()
                status_line = await reader.read(_HEAD_BYTES_MAX)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))


async def postgres_healthy(dsn: str) -> bool:
    """Whether the server takes a connection and answers a query."""
    try:
        connection = await asyncpg.connect(dsn, timeout=_CALL_SECONDS_MAX)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    try:
        return bool(await connection.fetchval("SELECT true", timeout=_CALL_SECONDS_MAX))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    finally:
        connection.terminate()

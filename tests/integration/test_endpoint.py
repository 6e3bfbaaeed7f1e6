"""What anybody may send to a sender's endpoint, before a token or a signature is looked at."""

import asyncio
import gzip
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from outreach.local.ports import free_port
from outreach.sending.endpoint import Refused, listening, read_body

HEAD = b"POST / HTTP/1.1\r\nHost: here\r\n"


@asynccontextmanager
async def endpoint(*, seconds_max: float = 30.0) -> AsyncIterator[int]:
    """Answers with the length of what was posted to `/`, and 404 elsewhere; gives its port."""

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.path != "/":
            return web.Response(status=404)
        try:
            body = await read_body(request, 1_000_000, seconds_max=seconds_max)
        except Refused as refused:
            return web.Response(status=refused.status)
        return web.Response(text=str(len(body)))

    port = free_port()
    async with listening(handle, "127.0.0.1", port):
        yield port


async def answer(port: int, request: bytes) -> str:
    """Status line and body, once the other side has answered; nothing more is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
    body = (await reader.readexactly(int(length))).decode()
    writer.close()
    await writer.wait_closed()
    return f"{head.partition(chr(13))[0]} {body}".strip()


@pytest.mark.parametrize("path", [b"/", b"/elsewhere"])
async def test_what_is_packed_stays_packed(path: bytes) -> None:
    """200 KB became 200 MB, for a stranger too, and a signature was held against the unpacked."""
    packed = gzip.compress(bytes(200_000_000), 9)
    head = HEAD.replace(b" / ", b" " + path + b" ")
    head += b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with endpoint() as port:
        said = await answer(port, head + packed)
    assert said == (f"HTTP/1.1 200 OK {len(packed)}" if path == b"/" else "HTTP/1.1 404 Not Found")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


async def test_a_body_that_does_not_end_is_given_up() -> None:
    async with endpoint(seconds_max=0.2) as port:
        assert await answer(port, HEAD + b"Content-Length: 9\r\n\r\n[") == (
            "HTTP/1.1 408 Request Timeout"
        )

"""A provider that takes everything at once: the zero-delay sink of the sending benchmarks.

`python -m bench.sink` prints its port and answers every POST as Twilio answers a create (201, a SID of its own), or as
SendGrid answers a mail/send (202, an id), `GET /count` with how many there were, and `GET /last` with when the latest
one began to arrive, on the machine's monotonic clock. It checks nothing: it shall cost both sides of a comparison as
little as can be.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import uvloop

_HEAD = (
    b"HTTP/1.1 201 CREATED\r\nContent-Type: application/json\r\nTwilio-Concurrent-Requests: 1\r\n"
    b"Content-Length: "
)


_MAIL_SENT = b"HTTP/1.1 202 Accepted\r\nX-Message-Id: sink%018d\r\nContent-Length: 0\r\n\r\n"


class _Connection(asyncio.Protocol):
    count = 0
    last_seconds = 0.0

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._began_seconds = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        if not self._buffer:
            self._began_seconds = time.monotonic()
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            del self._buffer[: end + 4 + length]
            is_create = head.startswith(b"post")
            if is_create:
                _Connection.last_seconds = max(_Connection.last_seconds, self._began_seconds)
            if head.startswith(b"post /v3/mail/send"):
                self._accept_mail()
            elif head.startswith(b"get /last"):
                self._send(repr(_Connection.last_seconds).encode())
            else:
                self._answer(is_create=is_create)

    def _accept_mail(self) -> None:
        assert self._transport is not None
        _Connection.count += 1
        self._transport.write(_MAIL_SENT % _Connection.count)

    def _answer(self, *, is_create: bool) -> None:
        if is_create:
            _Connection.count += 1
            body = (
                b'{"sid":"SM%032x","status":"accepted","num_segments":"1","error_code":null,"error_message":null}'
                % _Connection.count
            )
        else:
            body = b"%d" % _Connection.count
        self._send(body)

    def _send(self, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(_HEAD + b"%d\r\n\r\n" % len(body) + body)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@asynccontextmanager
async def sink() -> AsyncIterator[str]:
    """Its URL; a process of its own until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.sink", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    uvloop.run(_serve())

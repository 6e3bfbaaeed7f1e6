"""A large body: all but its last piece is with the kernel when the request begins, and no earlier is
it a request. On asyncio's loop and on uvloop, which the senders run on.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from aiohttp import ClientConnectionResetError
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict
from yarl import URL

from outreach.sending.provider import WindowOver
from outreach.sending.transport import (
    AnswerLost,
    BegunPayload,
    HttpAnswer,
    HttpTransport,
    NothingLeft,
)
from tests.waiting import eventually

LARGE = b"x" * 9_000_000
END = b"]}"
BODY_BYTES = 10 + len(LARGE) + len(END)
ANSWER = b"HTTP/1.1 202 Accepted\r\nX-Message-Id: m1\r\nContent-Length: 0\r\n\r\n"

Loop = Callable[[Coroutine[Any, Any, None]], None]


def _asyncio(run: Coroutine[Any, Any, None]) -> None:
    asyncio.run(run)


def _uvloop(run: Coroutine[Any, Any, None]) -> None:
    uvloop.run(run)


@pytest.fixture(params=[_asyncio, _uvloop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    chosen: Loop = request.param
    return chosen


class Server:
    """Takes connections in a thread, so that it reads while the client's loop is held in `begin`.

    `read_max`: bytes of a body that it reads before it does what `then` says: nothing (reads on, and
    answers what is whole), `close`, `reset`, or an answer to give at once.
    """

    def __init__(self, *, read_max: int = 2**62, then: str | bytes = "") -> None:
        self.read_max = read_max
        self.then = then
        self.heads = 0
        self.body_bytes = 0
        self.whole = 0
        self.seen = threading.Event()
        self.ended = threading.Event()
        self.received = threading.Condition()
        self._socket = socket.create_server(("127.0.0.1", 0))
        if isinstance(then, bytes):  # what is not read must not fit into the kernel's buffers
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if self.port == 0:
                    return
                with suppress(ConnectionError):
                    self._read(connection)
            self.ended.set()

    def _read(self, connection: socket.socket) -> None:
        data = bytearray()
        while chunk := connection.recv(1 << 20):
            data += chunk
            head, separator, body = bytes(data[:2_000]).partition(b"\r\n\r\n")
            if not separator:
                continue
            del body
            with self.received:
                self.heads = 1
                self.body_bytes = len(data) - len(head) - 4
                self.received.notify_all()
            if self.body_bytes >= self.read_max:
                self._interrupt(connection)
                return
            if self.body_bytes == BODY_BYTES:
                self.whole += 1
                connection.sendall(ANSWER)
                data.clear()

    def _interrupt(self, connection: socket.socket) -> None:
        if self.then == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif isinstance(self.then, bytes):
            # reads no more, and leaves the connection open until the answer was seen
            connection.sendall(self.then)
            assert self.seen.wait(60)

    def wait_for(self, body_bytes: int) -> int:
        """Give the network its time; the bytes of the body that are here then."""
        with self.received:
            self.received.wait_for(lambda: self.body_bytes >= body_bytes, 60)
        return self.body_bytes

    def close(self) -> None:
        port, self.port = self.port, 0
        socket.create_connection(("127.0.0.1", port)).close()
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(**options: Any) -> Server:
        servers.append(Server(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


async def _post(port: int, begin: Callable[[], None], *, seconds_max: float = 60.0) -> HttpAnswer:
    async with HttpTransport(connections_max=1, request_seconds_max=seconds_max) as transport:
        return await _post_on(transport, port, begin)


async def _post_on(transport: HttpTransport, port: int, begin: Callable[[], None]) -> HttpAnswer:
    payload = BegunPayload((b"0123456789", LARGE, END), "application/json", begin)
    url = URL(f"http://127.0.0.1:{port}/v3/mail/send")
    return await transport.post_payload(url, CIMultiDict(), payload)


def test_all_but_the_end_is_there_when_it_begins(loop: Loop, serve: Callable[..., Server]) -> None:
    server = serve()
    seen: list[int] = []

    def begin() -> None:
        # the loop is held here: nothing more is handed over meanwhile
        seen.append(server.wait_for(BODY_BYTES - len(END)))

    async def run() -> None:
        async with HttpTransport(connections_max=1, request_seconds_max=60) as transport:
            for _ in range(2):
                answer = await _post_on(transport, server.port, begin)
                assert (answer.status, answer.headers["X-Message-Id"]) == (202, "m1")

    loop(run())
    assert seen == [BODY_BYTES - len(END)] * 2
    assert server.whole == 2


@pytest.mark.parametrize("error", [WindowOver(), OSError(28, "no space left on device")])
def test_what_must_not_begin_is_never_whole(
    loop: Loop, serve: Callable[..., Server], error: Exception
) -> None:
    server = serve()

    def begin() -> None:
        raise error

    async def run() -> None:
        async with HttpTransport(connections_max=1, request_seconds_max=60) as transport:
            with pytest.raises(NothingLeft):
                await _post_on(transport, server.port, begin)
            # closed, not kept for another request, whose bytes would complete this one
            assert await asyncio.to_thread(server.ended.wait, 60)

    loop(run())
    assert server.whole == 0
    assert server.body_bytes < BODY_BYTES


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_connection_lost_under_the_body_has_not_begun(
    loop: Loop, serve: Callable[..., Server], then: str
) -> None:
    server = serve(read_max=100_000, then=then)
    begun: list[bool] = []

    async def run() -> None:
        with pytest.raises(NothingLeft):
            await _post(server.port, lambda: begun.append(True))

    loop(run())
    assert begun == []


def test_a_time_out_under_the_body_has_not_begun(loop: Loop, serve: Callable[..., Server]) -> None:
    """Nobody reads: the kernel's buffers are full long before the end."""
    begun: list[bool] = []

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            with pytest.raises(NothingLeft):
                await _post(deaf.getsockname()[1], lambda: begun.append(True), seconds_max=0.5)

    loop(run())
    assert begun == []


@pytest.mark.parametrize(
    ("status", "is_answer"),
    [
        ("413 Too Large", True),
        ("429 Slow", True),
        ("503 Later", False),
        ("408 Too Slow", False),
        ("302 Elsewhere", False),
    ],
)
def test_an_answer_before_the_end_counts_and_nothing_begins_after_it(
    loop: Loop, serve: Callable[..., Server], status: str, is_answer: bool
) -> None:
    """A refusal is one whenever it comes; a failure says nothing of a request that was none."""
    then = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    server = serve(read_max=100_000, then=then)
    begun: list[bool] = []

    async def run() -> None:
        if is_answer:
            answer = await _post(server.port, lambda: begun.append(True))
            assert answer.status == int(status[:3])
        else:
            with pytest.raises(NothingLeft, match=status[:3]):
                await _post(server.port, lambda: begun.append(True))
        server.seen.set()
        assert await asyncio.to_thread(server.ended.wait, 60), "the connection is closed"

    loop(run())
    assert server.whole == 0
    assert begun == []


def test_lost_after_the_end_may_have_been_taken(loop: Loop, serve: Callable[..., Server]) -> None:
    server = serve(read_max=BODY_BYTES, then="close")
    begun: list[bool] = []

    async def run() -> None:
        with pytest.raises(AnswerLost):
            await _post(server.port, lambda: begun.append(True))

    loop(run())
    assert begun == [True]


async def _connected(
    listening: socket.socket,
) -> tuple[BaseProtocol, asyncio.Transport, socket.socket]:
    """A connection whose kernel buffers are full, and its other end."""
    client = socket.create_connection(listening.getsockname())
    client.setblocking(False)
    server, _ = listening.accept()
    with suppress(BlockingIOError):
        while True:
            client.send(bytes(65_536))
    running = asyncio.get_running_loop()
    protocol = BaseProtocol(running)
    transport, _ = await running.create_connection(lambda: protocol, sock=client)
    return protocol, transport, server


def test_nothing_waits_in_the_process_when_it_begins(loop: Loop) -> None:
    """Else what had begun would still be on its way here, and its window over meanwhile."""
    waiting: list[int] = []

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            protocol, transport, server = await _connected(listening)
            # less than what makes a transport say by itself that it is full
            payload = BegunPayload(
                (LARGE[:40_000], END),
                "application/json",
                lambda: waiting.append(transport.get_write_buffer_size()),
            )
            writer = StreamWriter(protocol, asyncio.get_running_loop())
            writing = asyncio.create_task(payload.write_with_length(writer, None))
            await eventually(transport.get_write_buffer_size, 60, "it waits")
            reading = asyncio.create_task(asyncio.to_thread(_read_all, server))
            await writing
            transport.close()
            assert await reading > 40_000

    loop(run())
    assert waiting == [0]


@pytest.mark.parametrize("over", ["the request", "the connection"])
def test_what_is_over_does_not_begin(loop: Loop, over: str) -> None:
    begun: list[bool] = []

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            protocol, transport, server = await _connected(listening)
            payload = BegunPayload((END,), "application/json", lambda: begun.append(True))
            if over == "the request":
                payload.end()
            else:
                transport.abort()
            with pytest.raises(ClientConnectionResetError):
                await payload.write(StreamWriter(protocol, asyncio.get_running_loop()))
            transport.abort()
            server.close()

    loop(run())
    assert begun == []


def _read_all(connection: socket.socket) -> int:
    total = 0
    with connection:
        while chunk := connection.recv(1 << 16):
            total += len(chunk)
    return total

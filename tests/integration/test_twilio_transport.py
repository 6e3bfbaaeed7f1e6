"""The moment at which a request begins: after the connection, before the first byte; and never twice."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest
from multidict import CIMultiDict
from yarl import URL

from outreach.local.ports import free_port
from outreach.sending.provider import WindowOver
from outreach.sending.transport import AnswerLost, HttpAnswer, NothingLeft
from services.sender_sms.transport import TwilioTransport, basic_headers
from tests.waiting import eventually

FORM = b"To=%2B15005550006&Body=Hello"
ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """A TCP server in a thread of its own, so that it reads while the client's loop is held."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.answer = ANSWER
        self.received = bytearray()
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if self.port == 0:
                    return
                self.connections += 1
                with suppress(ConnectionError):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        """One answer a form; without one left the connection is closed instead."""
        seen = 0
        while chunk := connection.recv(65_536):
            self.received += chunk
            if self.received.count(FORM) > seen:
                seen = self.received.count(FORM)
                if not self.answers:
                    return
                self.answers -= 1
                connection.sendall(self.answer)

    def close(self) -> None:
        port, self.port = self.port, 0
        socket.create_connection(("127.0.0.1", port)).close()
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[[int], Server]]:
    servers: list[Server] = []

    def start(answers: int) -> Server:
        servers.append(Server(answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
async def transport(serve: Callable[[int], Server]) -> AsyncIterator[TwilioTransport]:
    """Closed before the servers, whose threads wait for the end of their connections."""
    transport = TwilioTransport(connections_max=4, request_seconds_max=60.0)
    yield transport
    await transport.close()


def _post(
    transport: TwilioTransport, port: int, begin: Callable[[], None]
) -> asyncio.Task[HttpAnswer]:
    headers: CIMultiDict[str] = basic_headers("AC1", "secret")
    url = URL(f"http://127.0.0.1:{port}/Messages.json")
    return asyncio.create_task(transport.post(url, headers, FORM, begin))


async def test_a_request_begins_with_a_connection_and_before_its_first_byte(
    transport: TwilioTransport, serve: Callable[[int], Server]
) -> None:
    server = serve(1)
    before: list[tuple[int, int]] = []

    def begin() -> None:
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline and not server.received:
            time.sleep(0.01)
        before.append((server.connections, len(server.received)))

    await _post(transport, server.port, begin)
    assert before == [(1, 0)]
    assert server.received.count(FORM) == 1


async def test_without_a_connection_it_never_begins(transport: TwilioTransport) -> None:
    begun: list[bool] = []
    with pytest.raises(NothingLeft):
        await _post(transport, free_port(), lambda: begun.append(True))
    assert not begun


@pytest.mark.parametrize("error", [WindowOver(), OSError(28, "no space left on device")])
async def test_what_must_not_begin_does_not_leave(
    transport: TwilioTransport, serve: Callable[[int], Server], error: Exception
) -> None:
    server = serve(1)

    def begin() -> None:
        raise error

    with pytest.raises(NothingLeft):
        await _post(transport, server.port, begin)
    await transport.close()
    await eventually(lambda: server.connections == 1, 60, "connected")
    assert not server.received


async def test_a_connection_that_ends_under_a_request_is_not_tried_again(
    transport: TwilioTransport, serve: Callable[[int], Server]
) -> None:
    """On a kept connection, where HTTP clients like to repeat themselves."""
    server = serve(1)
    begun: list[bool] = []
    await _post(transport, server.port, lambda: begun.append(True))
    with pytest.raises(AnswerLost):
        await _post(transport, server.port, lambda: begun.append(True))
    assert begun == [True, True]
    assert server.received.count(FORM) == 2
    assert server.connections == 1


async def test_a_redirect_is_not_followed(
    transport: TwilioTransport, serve: Callable[[int], Server]
) -> None:
    """A 307 would make a client post the form again, elsewhere, and with the credentials."""
    server, elsewhere = serve(1), serve(1)
    location = f"http://127.0.0.1:{elsewhere.port}/"
    server.answer = f"HTTP/1.1 307 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    answer = await _post(transport, server.port, lambda: None)
    assert answer.status == 307
    assert elsewhere.connections == 0

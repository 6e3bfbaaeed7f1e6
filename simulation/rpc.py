"""gRPC without sockets: calls that take time, and streams that stall or break with messages in flight.

A stream is ordered, as TCP is: what arrives is a prefix of what was sent. When it breaks, each side
notices in its own time, and until then goes on as if nothing had happened.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from random import Random
from typing import Any

import grpc
import grpc.aio

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2
from outreach.postgres.outage import STORE_ERRORS
from simulation.world import Process, World

Handler = Callable[..., Awaitable[Any]]

#: Between two messages that arrive together; timers of the same time have no order.
TICK_SECONDS = 1e-6
#: How long a side may take to notice that its stream is broken.
NOTICE_SECONDS_MAX = 4.0


def rpc_error(code: grpc.StatusCode, text: str) -> grpc.aio.AioRpcError:
    """What a call raises."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), text)


class _Ended(Exception):
    """The handler ended the call with a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class _Pipe:
    """One direction: messages arrive late and in order, until it is cut."""

    def __init__(self, world: World, draw: Random, arrive: Callable[[Any], None]) -> None:
        self._world = world
        self._draw = draw
        self._arrive = arrive
        self._latest = 0.0
        self._cut_seconds = float("inf")

    def send(self, message: Any) -> None:
        delay = self._draw.uniform(0.0005, 0.004)
        if self._world.is_faulty and self._draw.random() < self._world.stall:
            delay += self._draw.uniform(0, 3)  # a stall
        self._latest = max(self._world.now() + delay, self._latest + TICK_SECONDS)
        self._world.loop.call_at(self._latest, self._deliver, message)

    def _deliver(self, message: Any) -> None:
        if self._world.now() < self._cut_seconds:
            self._arrive(message)

    def cut(self, after_seconds: float) -> None:
        self._cut_seconds = min(self._cut_seconds, self._world.now() + after_seconds)


_END = object()


class _Messages:
    """What has arrived at one end and was not read."""

    def __init__(self) -> None:
        self._arrived: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None

    def add(self, message: Any) -> None:
        self._arrived.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def next(self) -> Any:
        while not self._arrived:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._arrived.popleft()

    def cancel_reader(self) -> None:
        """As grpc.aio does it: who reads sees a CancelledError that nobody sent to its task."""
        if self._reader is not None:
            self._reader.cancel()


class StreamCall:
    """Both ends of a call with streams in both directions, or in one. The client's end has the
    methods of `grpc.aio.StreamStreamCall` that the product uses.
    """

    def __init__(
        self,
        network: "Network",
        client: Process,
        server: Process,
        serialise: Callable[[Any], bytes],
        deserialise: Callable[[bytes], Any],
    ) -> None:
        self._network = network
        self._world = network.world
        self._serialise = serialise
        self._deserialise = deserialise
        self.client = client
        self.server = server
        self._requests = _Messages()
        self._responses = _Messages()
        self._up = _Pipe(self._world, network.draw, self._requests.add)
        self._down = _Pipe(self._world, network.draw, self._responses.add)
        self._error: grpc.aio.AioRpcError | None = None
        self._cancelled = False
        self._serving: asyncio.Task[Any] | None = None

    # The client's end

    async def write(self, request: Any) -> None:
        if self._cancelled or self._error is not None:
            raise asyncio.InvalidStateError("the call is over")
        self.client.require_alive()
        self._up.send(self._serialise(request))
        if isinstance(request, delivery_pb2.DeliverRequest):
            self._world.reached(f"{request.WhichOneof('request')} asked", self.client)
        await asyncio.sleep(0)

    async def read(self) -> Any:
        if self._cancelled:
            raise asyncio.CancelledError
        if self._error is not None:
            raise self._error
        message = await self._responses.next()
        if message is _END:
            return grpc.aio.EOF
        if isinstance(message, grpc.aio.AioRpcError):
            self._error = message
            raise message
        return self._deserialise(message)

    def cancel(self) -> bool:
        if self._cancelled or self._error is not None:
            return False
        self._cancelled = True
        self._responses.cancel_reader()
        self._abandon()
        return True

    def cancelled(self) -> bool:
        return self._cancelled

    # The server's end

    def serve(self, handler: Handler, first: Any | None = None) -> None:
        """Answer it by `handler(requests or the one request, context)`."""
        requests = self._iterate() if first is None else first
        self._serving = self.server.start(self._serve(handler, requests), "stream")

    async def _iterate(self) -> AsyncIterator[Any]:
        while (message := await self._requests.next()) is not _END:
            yield self._network.request_type.FromString(message)

    async def _serve(self, handler: Handler, requests: Any) -> None:
        try:
            await handler(requests, Context(self))
        except _Ended as ended:
            self._down.send(rpc_error(ended.code, ended.text))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - as the server does it
            if self.server.alive and not _is_expected(error):
                self._world.fail(f"{self.server.name}: a call failed: {error!r}")
            why = error.reason if isinstance(error, OutreachError) else type(error).__name__
            self._down.send(rpc_error(grpc.StatusCode.UNKNOWN, why))
        else:
            self._down.send(_END)
        finally:
            self._network.streams.pop(self, None)

    async def respond(self, response: Any) -> None:
        """From the handler."""
        self.server.require_alive()
        self._down.send(response if isinstance(response, bytes) else response.SerializeToString())
        if isinstance(response, delivery_pb2.DeliverResponse):
            self._world.reached(f"{response.WhichOneof('response')} answered", self.server)
        await asyncio.sleep(0)

    # The network

    def cut(self) -> None:
        """Break it: some of what is in flight still arrives, and each side notices when it does."""
        draw = self._network.draw
        self._up.cut(draw.uniform(0, 0.004))
        self._down.cut(draw.uniform(0, 0.004))
        notice = NOTICE_SECONDS_MAX if draw.random() < 0.5 else 0.05
        self._world.loop.call_later(draw.uniform(0, notice), self._client_notices)
        self._world.loop.call_later(draw.uniform(0, notice), self._server_notices)

    def _client_notices(self) -> None:
        if not self._cancelled and self._error is None:
            self._responses.add(rpc_error(grpc.StatusCode.UNAVAILABLE, "connection lost"))

    def _server_notices(self) -> None:
        if self._serving is not None:
            self._serving.cancel()

    def _abandon(self) -> None:
        """The client went away; what it had sent may arrive before that is known."""
        draw = self._network.draw
        self._up.cut(draw.uniform(0, 0.004))
        self._world.loop.call_later(draw.uniform(0.001, 0.05), self._server_notices)


def _is_expected(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_expected, error.exceptions))
    return isinstance(error, (OutreachError, asyncio.CancelledError, *STORE_ERRORS))


class Context:
    """What a handler sees of `grpc.aio.ServicerContext`."""

    def __init__(self, call: StreamCall | None = None) -> None:
        self._call = call

    async def write(self, response: Any) -> None:
        """The client may be gone: then it goes nowhere."""
        assert self._call is not None
        await self._call.respond(response)

    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        """Ends the call."""
        raise _Ended(code, details)


class Network:
    """All connections between processes. `servers` are those that take calls."""

    def __init__(self, world: World, request_type: Any) -> None:
        self.world = world
        self.draw = world.random("network")
        self.request_type = request_type
        #: A process and what it serves: methods by name.
        self.servers: dict[Process, dict[str, Handler]] = {}
        #: Open streams, in the order in which they were opened.
        self.streams: dict[StreamCall, None] = {}
        self._cut_off: set[str] = set()

    def server(self) -> tuple[Process, dict[str, Handler]] | None:
        """One that lives, as a load balancer chooses it."""
        living = [process for process in self.servers if process.alive]
        if not living:
            return None
        process = self.draw.choice(living)
        return process, self.servers[process]

    def open_stream(
        self,
        client: Process,
        method: str,
        serialise: Callable[[Any], bytes],
        deserialise: Callable[[bytes], Any],
        first: Any | None = None,
    ) -> StreamCall:
        """A stream to some server; where there is none it ends after a moment."""
        client.require_alive()
        found = self.server()
        server = found[0] if found else client
        call = StreamCall(self, client, server, serialise, deserialise)
        if found is None:
            self.world.loop.call_later(0.01, call._client_notices)  # noqa: SLF001 - this module's own
        else:
            self.streams[call] = None
            call.serve(found[1][method], first)
        return call

    async def call(self, client: Process, method: str, request: Any) -> Any:
        """A call with one answer; it may get lost on either way."""
        client.require_alive()
        found = self.server()
        await asyncio.sleep(self.draw.uniform(0.001, 0.01))
        lost = self.world.is_faulty and self.draw.random() < 0.05
        if found is None or lost or not found[0].alive:
            raise rpc_error(grpc.StatusCode.UNAVAILABLE, "no connection")
        return await found[1][method](request, Context())

    def cut_streams(self, of: Process | None = None) -> int:
        """Break every stream of a process, or all of them."""
        hit = [call for call in self.streams if of in (None, call.client, call.server)]
        for call in hit:
            self.streams.pop(call)
            call.cut()
        return len(hit)


class Channel:
    """What the product's stubs use of `grpc.aio.Channel`: calls of one client."""

    def __init__(self, network: Network, client: Process) -> None:
        self._network = network
        self._client = client

    def stream_stream(
        self,
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: Any,
    ) -> Callable[..., StreamCall]:
        """The stub's method."""
        method = path.rpartition("/")[2]
        return lambda metadata=None: self._network.open_stream(  # noqa: ARG005
            self._client, method, request_serializer, response_deserializer
        )

    def unary_unary(self, path: str, **_: Any) -> Callable[..., Awaitable[Any]]:
        """The stub's method."""
        method = path.rpartition("/")[2]
        return lambda request, metadata=None, timeout=None: self._network.call(  # noqa: ARG005
            self._client, method, request
        )

    def unary_stream(self, path: str, **_: Any) -> Callable[..., Any]:
        """The stub has it; nothing here has attachments."""

        def refuse(*_: Sequence[Any], **__: Any) -> Any:
            raise LookupError(f"nobody serves {path} in a simulation")

        return refuse

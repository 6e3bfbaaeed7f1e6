"""NATS without a server: jobs and webhooks in a store that redelivers, doubles and forgets, and core messages that
get lost, come twice and overtake each other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.js.errors import NotFoundError

from outreach.jetstream.connection import NatsConnection
from outreach.jetstream.topology import (
    INBOX_ACK_WAIT_SECONDS,
    INBOX_STREAM,
    JOB_ACK_WAIT_SECONDS,
    JOBS_STREAM,
)
from simulation.world import Process, World

_ACK_WAIT_SECONDS = {JOBS_STREAM: JOB_ACK_WAIT_SECONDS, INBOX_STREAM: INBOX_ACK_WAIT_SECONDS}


@dataclass(eq=False)
class _Stored:
    sequence: int
    subject: str
    data: bytes
    #: When it may be handed out again; 0: it is free.
    held_until: float = 0.0


@dataclass(eq=False)
class _Stream:
    """A work queue with one consumer."""

    name: str
    stored: dict[int, _Stored] = field(default_factory=dict)
    known_ids: set[str] = field(default_factory=set)
    #: False after the store was wiped, until somebody makes it again.
    exists: bool = True


class Server:
    """What all processes share."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.draw = world.random("nats")
        self.up = asyncio.Event()
        self.up.set()
        self.was_wiped = False
        self._streams = {name: _Stream(name) for name in _ACK_WAIT_SECONDS}
        self._sequence = 0
        self._subscribers: list[tuple[Process, str, Callable[[Msg], Awaitable[None]]]] = []
        self._arrivals: list[asyncio.Future[None]] = []

    @property
    def is_up(self) -> bool:
        """Whether it can be reached."""
        return self.up.is_set()

    def go_down(self) -> None:
        """Until `up` is set again; who waits for a message is told."""
        self.up.clear()
        self.tell_arrival()

    def connect(self, process: Process) -> NatsConnection:
        """A connection of a process, with what the product uses of one."""
        return cast("NatsConnection", _Connection(self, process))

    def wipe(self) -> None:
        """The store is gone, with the streams in it."""
        self.was_wiped = True
        for name in self._streams:
            self._streams[name] = _Stream(name, exists=False)
        self.tell_arrival()

    def make_streams(self) -> None:
        """Those that are missing."""
        for stream in self._streams.values():
            stream.exists = True

    def stream(self, name: str) -> _Stream:
        stream = self._streams[name]
        if not stream.exists:
            raise NotFoundError
        return stream

    def store(self, name: str, subject: str, data: bytes, message_id: str | None) -> None:
        """Unless the id is known."""
        stream = self.stream(name)
        if message_id is not None:
            if message_id in stream.known_ids:
                return
            stream.known_ids.add(message_id)
        self._sequence += 1
        stream.stored[self._sequence] = _Stored(self._sequence, subject, data)
        self.tell_arrival()

    def tell_arrival(self) -> None:
        """Who waits for messages looks again."""
        arrivals, self._arrivals = self._arrivals, []
        for arrival in arrivals:
            if not arrival.done():
                arrival.set_result(None)

    async def arrival(self) -> None:
        arrival: asyncio.Future[None] = self.world.loop.create_future()
        self._arrivals.append(arrival)
        await arrival

    def hand_out(self, stream: _Stream) -> _Stored | None:
        """The next one that nobody holds."""
        now = self.world.now()
        for stored in stream.stored.values():
            if stored.held_until <= now:
                if self._doubles():
                    self.world.history.tell("nats", f"hands {stored.sequence} out twice")
                else:
                    self.hold(stream, stored, float(_ACK_WAIT_SECONDS[stream.name]))
                return stored
        return None

    def hold(self, stream: _Stream, stored: _Stored, seconds: float) -> None:
        """Nobody else gets it for so long."""
        stored.held_until = self.world.now() + seconds
        if stream.stored.get(stored.sequence) is stored:
            self.world.loop.call_later(seconds + 1e-4, self.tell_arrival)

    def _doubles(self) -> bool:
        return self.world.is_faulty and self.draw.random() < 0.03

    def redeliver_all(self) -> None:
        """Every message that is out is given to another one too."""
        for stream in self._streams.values():
            for stored in stream.stored.values():
                stored.held_until = 0.0
        self.tell_arrival()

    def subscribe(
        self, process: Process, pattern: str, callback: Callable[[Msg], Awaitable[None]]
    ) -> None:
        """Core messages of a subject, or of all that begin as a pattern does."""
        self._subscribers.append((process, pattern.split("*", maxsplit=1)[0], callback))

    def publish(self, subject: str, data: bytes) -> None:
        """A core message: to each subscriber on its own way."""
        for process, prefix, callback in self._subscribers:
            if process.alive and subject.startswith(prefix):
                for _ in range(self._copies()):
                    delay = self.draw.uniform(0.0005, 0.005)
                    if self.world.is_faulty and self.draw.random() < 0.1:
                        delay += self.draw.uniform(0, 1)
                    message = cast("Msg", _CoreMessage(subject, data))
                    self.world.loop.call_later(delay, self._tell, process, callback, message)

    def _copies(self) -> int:
        if not self.world.is_faulty:
            return 1
        chance = self.draw.random()
        return 0 if chance < 0.1 else 2 if chance < 0.2 else 1

    def _tell(
        self, process: Process, callback: Callable[[Msg], Awaitable[None]], message: Msg
    ) -> None:
        if process.alive:
            process.start(callback(message), "nats-message")  # type: ignore[arg-type]


@dataclass(frozen=True)
class _CoreMessage:
    subject: str
    data: bytes


class _JobMessage:
    """What the product uses of a JetStream `Msg`."""

    def __init__(self, server: Server, process: Process, stream: _Stream, stored: _Stored) -> None:
        self._server = server
        self._process = process
        self._stream = stream
        self._stored = stored
        self.data = stored.data
        self.subject = stored.subject

    async def ack(self) -> None:
        if self._reaches():
            self._stream.stored.pop(self._stored.sequence, None)

    async def term(self) -> None:
        await self.ack()

    async def nak(self, delay: float | None = None) -> None:
        if self._reaches():
            self._server.hold(self._stream, self._stored, delay or 0.0)

    async def in_progress(self) -> None:
        if self._reaches():
            seconds = float(_ACK_WAIT_SECONDS[self._stream.name])
            self._server.hold(self._stream, self._stored, seconds)

    def _reaches(self) -> bool:
        """An acknowledgement is not acknowledged: when it is lost, nobody knows."""
        self._process.require_alive()
        if not self._server.is_up:
            raise ConnectionClosedError
        return not (self._server.world.is_faulty and self._server.draw.random() < 0.05)


class _Subscription:
    """A pull subscription."""

    def __init__(self, connection: "_Connection", stream: str) -> None:
        self._connection = connection
        self._stream = stream

    async def fetch(self, batch: int, timeout: float) -> list[_JobMessage]:
        server, process = self._connection.server, self._connection.process
        async with asyncio.timeout(timeout):
            while True:
                await asyncio.sleep(server.draw.uniform(0.0005, 0.003))
                self._connection.require()
                stream = self._connection.peek(self._stream)
                if stream is None:
                    raise TimeoutError  # a fetch of a consumer that is gone is answered by silence
                messages: list[_JobMessage] = []
                while len(messages) < batch and (stored := server.hand_out(stream)) is not None:
                    messages.append(_JobMessage(server, process, stream, stored))
                if messages:
                    return messages
                await server.arrival()

    async def consumer_info(self) -> None:
        await self._connection.consumer_info(self._stream, "")

    async def unsubscribe(self) -> None:
        return


class _Connection:
    """One process's; it is its own client and JetStream context, too."""

    def __init__(self, server: Server, process: Process) -> None:
        self.server = server
        self.process = process
        self.client = self
        self.jetstream = self

    @property
    def is_connected(self) -> bool:
        return self.server.is_up and self.process.alive

    async def connected(self) -> None:
        await self.server.up.wait()

    def require(self) -> None:
        self.process.require_alive()
        if not self.server.is_up:
            raise ConnectionClosedError

    def peek(self, name: str) -> _Stream | None:
        try:
            return self.server.stream(name)
        except NotFoundError:
            return None

    async def subscribe(self, subject: str, cb: Callable[[Msg], Awaitable[None]]) -> None:
        self.require()
        self.server.subscribe(self.process, subject, cb)

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Core without a time-out; into the store with one, which may answer nothing."""
        self.require()
        if timeout is None:
            self.server.publish(subject, payload)
            return
        await asyncio.sleep(self.server.draw.uniform(0.0005, 0.003))
        self.require()
        lost = self.server.world.is_faulty and self.server.draw.random() < 0.05
        name = JOBS_STREAM if ".jobs." in subject else INBOX_STREAM
        if not lost or self.server.draw.random() < 0.5:
            self.server.store(name, subject, payload, (headers or {}).get("Nats-Msg-Id"))
        if lost:
            await asyncio.sleep(timeout)
            raise TimeoutError

    async def purge_stream(self, name: str, subject: str) -> None:
        self.require()
        stream = self.server.stream(name)
        for sequence in [n for n, stored in stream.stored.items() if stored.subject == subject]:
            del stream.stored[sequence]

    async def consumer_info(self, stream: str, durable: str) -> None:  # noqa: ARG002 - nats-py's
        self.require()
        self.server.stream(stream)

    async def pull_subscribe_bind(self, consumer: str, stream: str) -> Any:  # noqa: ARG002
        self.require()
        return _Subscription(self, stream)


async def make_streams(jetstream: Any) -> None:
    """In place of `ensure_topology`."""
    jetstream.server.make_streams()

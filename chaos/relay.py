"""A TCP proxy between two parts, which fails as networks do: per connection, per direction, and on purpose.

Bytes are forwarded as they come, with bounded buffers: who does not read holds up who writes, as without it.
A part that is down looks as a network's reset, not as a refused connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from types import TracebackType
from typing import Self

_HOST = "127.0.0.1"
_CHUNK_BYTES_MAX = 65_536
_CONNECT_SECONDS_MAX = 10.0
# Closing with no time to linger is what sends an RST.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Direction(Enum):
    """Which way bytes go: `UP` to the relay's target, `DOWN` back to whoever connected."""

    UP = "up"
    DOWN = "down"


BOTH = frozenset(Direction)


@dataclass(eq=False)
class _Connection:
    """One connection through the relay: both its sides, and what is wrong with it."""

    source: asyncio.StreamWriter
    target: asyncio.StreamWriter | None = None
    #: By direction: the next bytes are torn, and what draws where.
    torn: dict[Direction, Random] = field(default_factory=dict)
    #: The end that is gone without the other one's knowledge.
    lost: asyncio.StreamWriter | None = None

    def end(self, direction: Direction) -> asyncio.StreamWriter:
        """Where bytes of this direction go."""
        assert self.target is not None
        return self.target if direction is Direction.UP else self.source

    def close(self) -> None:
        """Both ends in order: what was written is still delivered."""
        for writer in (self.source, self.target):
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        """RST to both sides; what is on its way is lost."""
        for writer in (self.source, self.target):
            if writer is not None:
                _reset(writer)


class Relay:
    """Relays every connection to one address of this machine. An async context manager: listening while entered.

    `target_port` may be set after it began to listen.

    Attributes:
        port: where it listens on 127.0.0.1.
        bytes_relayed: so far, in both directions.
        frames_torn: so far, by `reset_mid_frame`.
    """

    def __init__(self, target_port: int = 0) -> None:
        self.target_port = target_port
        self.port = 0
        self.bytes_relayed = 0
        self.frames_torn = 0
        self._connections: set[_Connection] = set()
        self._flows = {direction: asyncio.Event() for direction in Direction}
        for flow in self._flows.values():
            flow.set()
        self._dribble: tuple[int, float] | None = None
        self._refusing = False
        self._losses_are_silent = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, _HOST, 0, limit=_CHUNK_BYTES_MAX)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        for flow in self._flows.values():
            flow.set()
        await self._server.wait_closed()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    # Faults: each method that lasts is a context manager, and the fault ends with its block.

    def cut(self) -> int:
        """Reset all connections; new ones are taken. Says how many there were."""
        connections = [*self._connections]
        for connection in connections:
            connection.reset()
        return len(connections)

    @asynccontextmanager
    async def stalled(self, directions: frozenset[Direction] = BOTH) -> AsyncIterator[None]:
        """Connections and bytes are taken, as many as the buffers hold, and nothing is forwarded; nor is an end
        or a reset. Afterwards all goes on, with what had been taken.
        """
        for direction in directions:
            self._flows[direction].clear()
        try:
            yield
        finally:
            for direction in directions:
                self._flows[direction].set()

    @asynccontextmanager
    async def trickling(
        self, *, chunk_bytes: int = 7, pause_seconds: float = 0.02
    ) -> AsyncIterator[None]:
        """A few bytes at a time, with pauses, in both directions; also on new connections."""
        self._dribble = (chunk_bytes, pause_seconds)
        try:
            yield
        finally:
            self._dribble = None

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """New connections are reset as soon as they are made; those that are open go on."""
        self._refusing = True
        try:
            yield
        finally:
            self._refusing = False

    @asynccontextmanager
    async def half_open(self, gone: Direction) -> AsyncIterator[None]:
        """One end of each open connection is gone, and the other one is not told: what that writes vanishes, as it
        would with a machine that lost its power. New connections are whole.

        Once the block is left, the next bytes that are written to nobody are answered by a reset.

        Args:
            gone: the end that sees a reset: `UP` the target's, `DOWN` that of whoever connected.
        """
        self._losses_are_silent = True
        for connection in [*self._connections]:
            if connection.target is not None:
                connection.lost = connection.end(gone)
                _reset(connection.lost)
        try:
            yield
        finally:
            self._losses_are_silent = False

    def reset_mid_frame(self, random: Random, direction: Direction) -> int:
        """Of the next bytes that each open connection gets in this direction let a part through, drawn from
        `random`, and reset both sides. Says of how many connections.
        """
        connections = [*self._connections]
        for connection in connections:
            connection.torn[direction] = random
        return len(connections)

    # Relaying

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            for flow in self._flows.values():
                await flow.wait()
            if writer.is_closing():
                return  # cut before it was forwarded
            async with asyncio.timeout(_CONNECT_SECONDS_MAX):
                back, connection.target = await asyncio.open_connection(
                    _HOST, self.target_port, limit=_CHUNK_BYTES_MAX
                )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(connection, Direction.UP, reader))
                tasks.create_task(self._pump(connection, Direction.DOWN, back))
            connection.close()
        except OSError:  # also TimeoutError: nobody listens there
            connection.reset()
        finally:
            self._connections.discard(connection)

    async def _pump(
        self, connection: _Connection, direction: Direction, reader: asyncio.StreamReader
    ) -> None:
        """One direction of a connection, to its end."""
        to = connection.end(direction)
        try:
            while chunk := await reader.read(_CHUNK_BYTES_MAX):
                await self._flows[direction].wait()
                await self._forward(connection, direction, to, chunk)
            await self._flows[direction].wait()
            if connection.lost is None:
                if not to.is_closing():
                    to.write_eof()
                return
        except OSError:
            await self._flows[direction].wait()
        if connection.lost is not to:
            # An end that was lost says nothing; a reset is passed on.
            if connection.lost is None:
                connection.reset()
            return
        connection.reset()  # the end that was left behind has gone, too

    async def _forward(
        self,
        connection: _Connection,
        direction: Direction,
        to: asyncio.StreamWriter,
        chunk: bytes,
    ) -> None:
        if connection.lost is not None:
            if not self._losses_are_silent:
                connection.reset()
            return
        random = connection.torn.pop(direction, None)
        if random is not None:
            to.write(chunk[: random.randrange(len(chunk))])
            await to.drain()
            self.frames_torn += 1
            connection.reset()
            return
        self.bytes_relayed += len(chunk)
        try:
            await self._write(to, chunk)
        except OSError:
            if connection.lost is None:
                raise

    async def _write(self, to: asyncio.StreamWriter, chunk: bytes) -> None:
        while self._dribble is not None and chunk:
            size, pause_seconds = self._dribble
            to.write(chunk[:size])
            await to.drain()
            chunk = chunk[size:]
            await asyncio.sleep(pause_seconds)
        to.write(chunk)
        await to.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):  # closed by the other side already
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()

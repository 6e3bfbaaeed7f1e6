"""A TCP relay whose connections can be cut, as a network does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self


class CuttableRelay:
    """Relays every connection to one address, until it is cut; new ones are taken all the same.

    `first_seconds`: how long the first byte of a connection takes, as on a slow line.
    """

    def __init__(self, target: str, first_seconds: float = 0.0) -> None:
        self._first_seconds = first_seconds
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, target: str, *, first_seconds: float = 0.0) -> AsyncIterator[Self]:
        """A relay to `host:port`, listening at `address`."""
        relay = cls(target, first_seconds)
        server = await asyncio.start_server(relay._relay, "127.0.0.1", 0)
        relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            server.close()
            relay.cut()
            await server.wait_closed()

    def cut(self) -> int:
        """Reset all connections; what is on its way is lost. Says how many there were."""
        cut = len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()
        return cut

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._first_seconds)
        try:
            other_reader, other_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, other_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, other_writer))
                tasks.create_task(_pump(other_reader, writer))
        finally:
            self._writers -= both
            for one in both:
                one.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # cut
    writer.transport.abort()

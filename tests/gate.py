"""A TCP gate before a server: while it is shut, open connections are cut and new ones refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Gate:
    """Made by `gate_before`; open at first."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._link, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut and refuse."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        links = [*self._links]
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        await server.wait_closed()

    @asynccontextmanager
    async def shut_for_a_while(self) -> AsyncIterator[None]:
        """Shut inside the block."""
        await self.shut()
        try:
            yield
        finally:
            await self.open()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._target)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_pump(reader, to_writer))
                    tasks.create_task(_pump(to_reader, writer))
            finally:
                await _closed(to_writer)
        except asyncio.CancelledError:  # shut: the end of this task, and nobody awaits it
            pass
        finally:
            self._links.discard(task)
            await _closed(writer)


@asynccontextmanager
async def gate_before(url: str) -> AsyncIterator[tuple[Gate, str]]:
    """A gate before the server of this URL, and the URL that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    gate = Gate(parts.hostname, parts.port)
    await gate.open()
    credentials, at, _ = parts.netloc.rpartition("@")
    through = parts._replace(netloc=f"{credentials}{at}127.0.0.1:{gate.port}")
    try:
        yield gate, urlunsplit(through)
    finally:
        await gate.shut()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()

"""A pipe from a child process to the event loop, closed by its owner."""

from __future__ import annotations

import asyncio
import os
from typing import Self


class ReadPipe:
    """What a child writes to `write_fd` is read from `reader`.

    Unlike the pipes of `asyncio.subprocess` it can be closed while somebody, a grandchild for
    instance, still holds the other end.
    """

    def __init__(
        self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport, write_fd: int
    ) -> None:
        self.reader = reader
        self._transport = transport
        self._write_fd: int | None = write_fd

    @classmethod
    async def open(cls) -> Self:
        """A new pipe; both ends are this process's until a child has inherited one."""
        read_fd, write_fd = os.pipe()
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", buffering=0)
        )
        return cls(reader, transport, write_fd)

    @property
    def write_fd(self) -> int:
        """The end for the child."""
        assert self._write_fd is not None, "the write end is closed"
        return self._write_fd

    def close_write_end(self) -> None:
        """Once the child has it: end of file then means that the child is done."""
        if self._write_fd is not None:
            os.close(self._write_fd)
            self._write_fd = None

    def close(self) -> None:
        """Close what is still open here."""
        self.close_write_end()
        self._transport.close()

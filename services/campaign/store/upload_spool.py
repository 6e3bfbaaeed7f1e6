"""A file on its way in, before it is complete and in the database.

The sender may be slow, and no transaction waits for a network; so the bytes are kept on the local
disk until all are here, in a file without a name: when the upload is broken off or the process
killed, nothing of it is left.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

Answer = TypeVar("Answer")

#: Also the size of a row in `upload_chunk` and `attachment_chunk`.
PIECE_BYTES = 1024 * 1024


class UploadSpool:
    """Append chunks, then read the whole in pieces of PIECE_BYTES (the last is shorter).

    Holds about one piece in memory. OSError when the disk is full.
    """

    def __init__(self, head_bytes_max: int = 0) -> None:
        self._head_bytes_max = head_bytes_max
        # Up to one piece stays in memory; most files of contacts never touch the disk.
        self._file = tempfile.SpooledTemporaryFile(max_size=PIECE_BYTES)  # noqa: SIM115 - closed by __exit__
        self._waiting = bytearray()
        self._head = bytearray()
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def head(self) -> bytes:
        """The first bytes, at most `head_bytes_max`."""
        return bytes(self._head)

    @property
    def head_complete(self) -> bool:
        """Whether the head won't grow any more."""
        return len(self._head) >= self._head_bytes_max

    async def append(self, chunk: bytes) -> None:
        """Take further bytes."""
        self.size_bytes += len(chunk)
        self._head += chunk[: self._head_bytes_max - len(self._head)]
        self._waiting += chunk
        if len(self._waiting) >= PIECE_BYTES:
            await self._flush()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The whole file, from its beginning."""
        await self._flush()
        await _in_thread(partial(self._file.seek, 0))
        while piece := await _in_thread(partial(self._file.read, PIECE_BYTES)):
            yield piece

    async def looked_at(self, look: Callable[[Callable[[int, int], bytes]], Answer]) -> Answer:
        """What `look` finds out about the whole file, in a thread.

        It is given a reader: so many bytes at an offset. Nothing can be appended afterwards.
        """
        await self._flush()

        def read(offset: int, size_bytes: int) -> bytes:
            self._file.seek(offset)
            return self._file.read(size_bytes)

        return await _in_thread(partial(look, read))

    async def _flush(self) -> None:
        data = bytes(self._waiting)
        self._waiting.clear()
        await _in_thread(partial(self._file.write, data))


async def _in_thread(work: Callable[[], Answer]) -> Answer:
    """Also who is cancelled waits for it: the file must not be closed under the thread's hands.

    Seen: a thread that was about to move the file to the disk left one open there.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # nobody wants to know any more
        raise

"""One export on its way to one reader: the next step is read while this one is sent, and no more than that."""

import asyncio
import hashlib
from collections.abc import AsyncIterable
from typing import Any

import grpc.aio

from outreach.errors import OutreachError
from outreach.v1 import export_pb2
from services.export.domain.csv_lines import CsvLines
from services.export.store.steps import Step

#: Of one response; below what the proto promises, so that it is no large message on the way.
CHUNK_BYTES_MAX = 512 * 1024
#: An export that finds nothing to send for so long says that it goes on.
QUIET_SECONDS_MAX = 10.0

Context = grpc.aio.ServicerContext[Any, Any]


class CsvStream:
    """Counts, hashes and sends the bytes of one file, those behind `offset_bytes`.

    Raises, from every method that sends:
        OutreachError: EXPORT_READER_TOO_SLOW.
    """

    def __init__(self, context: Context, *, offset_bytes: int, write_seconds_max: float) -> None:
        self._context = context
        self._offset_bytes = offset_bytes
        self._write_seconds_max = write_seconds_max
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._written_seconds = 0.0

    @property
    def skips(self) -> bool:
        """Whether all so far was sent by an earlier call."""
        return self._size_bytes < self._offset_bytes

    async def start(self, start: export_pb2.ExportStart) -> None:
        """The first response."""
        await self._write(export_pb2.ExportResponse(start=start))

    async def put(self, data: bytes) -> None:
        """The next bytes of the file."""
        self._sha256.update(data)
        skipped = min(len(data), max(0, self._offset_bytes - self._size_bytes))
        self._size_bytes += len(data)
        view = memoryview(data)
        for begin in range(skipped, len(data), CHUNK_BYTES_MAX):
            chunk = bytes(view[begin : begin + CHUNK_BYTES_MAX])
            await self._write(export_pb2.ExportResponse(chunk=chunk))
        loop = asyncio.get_running_loop()
        if loop.time() - self._written_seconds > QUIET_SECONDS_MAX:
            await self._write(export_pb2.ExportResponse(chunk=b""))

    async def end(self, rows: int) -> None:
        """The last response. EXPORT_OFFSET_INVALID when the file is shorter than the offset."""
        if self.skips:
            raise OutreachError(
                "EXPORT_OFFSET_INVALID",
                f"The export has {self._size_bytes:,} bytes; there is nothing to go on behind that.",
                metadata={"size_bytes": str(self._size_bytes)},
            )
        end = export_pb2.ExportEnd(
            rows=rows, size_bytes=self._size_bytes, sha256=self._sha256.hexdigest()
        )
        await self._write(export_pb2.ExportResponse(end=end))

    async def _write(self, response: export_pb2.ExportResponse) -> None:
        try:
            async with asyncio.timeout(self._write_seconds_max) as limit:
                await self._context.write(response)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise OutreachError(
                "EXPORT_READER_TOO_SLOW",
                f"The export was cut off: nothing was read for {self._write_seconds_max:g} s.",
            ) from error
        self._written_seconds = asyncio.get_running_loop().time()


async def send(
    stream: CsvStream,
    steps: AsyncIterable[Step],
    lines: CsvLines,
    *,
    revision: int = 0,
) -> None:
    """The whole file, header and end.

    While bytes are skipped the campaign must stay at `revision`: what was sent by an earlier call would else be the
    beginning of another file.

    Raises:
        OutreachError: EXPORT_CHANGED, and what the stream and the steps raise.
    """
    queue: asyncio.Queue[Step | None] = asyncio.Queue(maxsize=1)

    async def read() -> None:
        async for step in steps:
            await queue.put(step)
        await queue.put(None)

    rows = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            await stream.put(lines.header)
            while (step := await queue.get()) is not None:
                if stream.skips and step.revision != revision:
                    raise export_changed()
                rows += step.rows
                # Some ten passes over some megabytes: other exports go on meanwhile.
                data = await asyncio.to_thread(lines.of, step.copied, step.marks)
                await stream.put(data)
            await stream.end(rows)
    except ExceptionGroup as failures:
        # The first of them is the cause; a failure of the other side only follows from it.
        raise failures.exceptions[0] from None


def export_changed() -> OutreachError:
    """The part that was exported before is of another file."""
    return OutreachError(
        "EXPORT_CHANGED",
        "The campaign is not what it was when the part before was exported. Export it anew.",
    )

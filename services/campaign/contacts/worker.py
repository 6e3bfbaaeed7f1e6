"""The import in a process of its own: `python -m services.campaign.contacts.worker`.

So the event loop is never held up by parsing, and a second core is used. A fresh interpreter, never
a fork: the parent runs gRPC. The worker ends with its standard input, so it can't outlive its
parent. Bytes it has not taken and batches that are not fetched stay in the pipes, which are small:
back-pressure from the database to the file.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from traceback import extract_tb
from typing import BinaryIO

from services.campaign.contacts import frames
from services.campaign.contacts.errors import ContactFileError
from services.campaign.contacts.importer import ContactImport, ImportBatch, ImportSpec

_MODULE = "services.campaign.contacts.worker"
_ROOT = Path(__file__).resolve().parents[3]
_CHUNK_BYTES_MAX = 256 * 1024
# asyncio reads ahead up to twice this: some batches, so that the worker goes on while one is stored.
_READ_AHEAD_BYTES = 1024 * 1024


class ContactWorkerError(RuntimeError):
    """The worker process ended without a result: killed, out of memory, out of time, or broken. The
    import is void.
    """


@asynccontextmanager
async def import_in_worker(
    chunks: AsyncIterator[bytes], spec: ImportSpec, *, timeout_seconds: float = 900.0
) -> AsyncGenerator[AsyncIterator[ImportBatch]]:
    """Run an import in a worker process.

    `async with import_in_worker(chunks, spec) as batches: async for batch in batches: ...`. The
    last batch has `last` set. Raises ContactFileError when the file is refused, ContactWorkerError
    when the worker fails or `timeout_seconds` pass, and whatever `chunks` raises. Leaving the block
    ends the worker.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_READ_AHEAD_BYTES,
        cwd=_ROOT,
    )
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    try:
        async with asyncio.TaskGroup() as tasks:
            feeder = tasks.create_task(_feed(process, chunks, spec))
            async with aclosing(_batches(process, deadline)) as batches:
                yield batches
            feeder.cancel()
    except BaseExceptionGroup as group:
        # The caller's own error, or that of `chunks`: not ours to wrap.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    # A pipe that back-pressure has paused is closed only once it is read to its end.
    if process.stdout is not None:
        while await process.stdout.read(_CHUNK_BYTES_MAX):
            pass
    await process.wait()


async def _feed(
    process: asyncio.subprocess.Process, chunks: AsyncIterator[bytes], spec: ImportSpec
) -> None:
    stdin = process.stdin
    assert stdin is not None
    try:
        stdin.write(frames.frame(frames.SPEC, frames.encode_spec(spec)))
        async for chunk in chunks:
            for start in range(0, len(chunk), _CHUNK_BYTES_MAX):
                part = chunk[start : start + _CHUNK_BYTES_MAX]
                stdin.write(frames.frame(frames.CHUNK, part))
                await stdin.drain()
        stdin.write(frames.frame(frames.END))
        await stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        # The worker is gone; the reader of its batches says why.
        return


async def _batches(
    process: asyncio.subprocess.Process, deadline: float
) -> AsyncGenerator[ImportBatch]:
    stdout = process.stdout
    assert stdout is not None
    last = False
    while not last:
        try:
            async with asyncio.timeout_at(deadline):
                kind, length = frames.read_head(await stdout.readexactly(frames.HEAD.size))
                body = await stdout.readexactly(length)
        except asyncio.IncompleteReadError:
            raise ContactWorkerError(
                f"the import's worker ended early, code {await process.wait()}"
            ) from None
        except TimeoutError:
            raise ContactWorkerError("the import took too long") from None
        if kind == frames.REFUSED:
            raise frames.decode_refusal(body)
        if kind == frames.CRASHED:
            raise ContactWorkerError(f"the import's worker is broken: {body.decode()}")
        batch = frames.decode_batch(body)
        last = batch.last
        yield batch


def main() -> int:
    """The worker: frames from standard input, frames to standard output."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    try:
        _work(source, sink)
    except EOFError:
        return 1  # the parent is gone or has given up; there is nobody to tell
    except BrokenPipeError:
        return 1
    except ContactFileError as error:
        _send(sink, frames.encode_refusal(error))
    except Exception as error:  # noqa: BLE001 - the edge of the process: said to the parent
        # Type and place only: the message of an exception may hold a row.
        place = extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
        _send(sink, frames.frame(frames.CRASHED, text.encode()))
        return 1
    return 0


def _work(source: BinaryIO, sink: BinaryIO) -> None:
    kind, body = _receive(source)
    if kind != frames.SPEC:
        raise ValueError(f"the first frame is of kind {kind}")
    running = ContactImport(frames.decode_spec(body))
    kind, body = _receive(source)
    while kind == frames.CHUNK:
        _send_all(sink, running.feed(body))
        kind, body = _receive(source)
    _send_all(sink, running.finish())


def _send_all(sink: BinaryIO, batches: Iterable[ImportBatch]) -> None:
    for batch in batches:
        _send(sink, frames.encode_batch(batch))


def _send(sink: BinaryIO, data: bytes) -> None:
    sink.write(data)
    sink.flush()


def _receive(source: BinaryIO) -> tuple[int, bytes]:
    kind, length = frames.read_head(_read_exactly(source, frames.HEAD.size))
    return kind, _read_exactly(source, length)


def _read_exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return data


if __name__ == "__main__":
    sys.exit(main())

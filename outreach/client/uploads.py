"""A file on its way to the service: in chunks, with progress, and with every refusal told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeAlias, TypeVar

import grpc

from outreach.client.errors import CallError, call_error

CHUNK_BYTES_MAX = 64 * 1024
_READ_BYTES = 1024 * 1024
# What grpc.aio says in place of the service's status (its call.pyx, `set_internal_error`).
_STATUS_LOST = "Internal error from Core"

# A file, its bytes, or an iterator of pieces of any size; the last can be read only once.
Source: TypeAlias = "Path | bytes | AsyncIterator[bytes]"
# Called with the bytes given to the connection so far, and the size when it is known.
UploadProgress = Callable[[int, int | None], None]

Frame = TypeVar("Frame")
Answer = TypeVar("Answer")


async def size_of(source: Path | bytes) -> int:
    """Bytes of the file."""
    if isinstance(source, bytes):
        return len(source)
    return (await asyncio.to_thread(source.stat)).st_size


async def chunks_of(
    source: Source, size_bytes: int | None, on_progress: UploadProgress | None
) -> AsyncGenerator[bytes]:
    """The file in chunks of at most `CHUNK_BYTES_MAX`; progress is told when one was taken."""
    sent_bytes = 0
    async with aclosing(_pieces(source)) as pieces:
        async for piece in pieces:
            for start in range(0, len(piece), CHUNK_BYTES_MAX):
                chunk = piece[start : start + CHUNK_BYTES_MAX]
                yield chunk
                sent_bytes += len(chunk)
                if on_progress is not None:
                    on_progress(sent_bytes, size_bytes)


async def framed(
    header: Frame, chunks: AsyncGenerator[bytes], frame_of: Callable[[bytes], Frame]
) -> AsyncGenerator[Frame]:
    """The header's frame, then one for each chunk."""
    yield header
    async with aclosing(chunks):
        async for chunk in chunks:
            yield frame_of(chunk)


async def uploaded(
    call: grpc.aio.StreamUnaryCall[Frame, Answer], frames: AsyncGenerator[Frame]
) -> Answer:
    """Write the frames and give the answer. CallError for a refusal, whenever it comes."""
    writing = asyncio.create_task(_write_all(call, frames))
    over = asyncio.create_task(call.code())
    try:
        # The call may end while the source gives nothing: a lost connection, a closed client.
        await asyncio.wait({writing, over}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
        return await call
    except grpc.aio.AioRpcError as error:
        raise _upload_error(error) from error
    except asyncio.CancelledError:
        if not call.cancelled() or _is_cancelled():
            raise
        raise _client_closed() from None
    finally:
        call.cancel()
        writing.cancel()
        over.cancel()
        await asyncio.gather(writing, over, return_exceptions=True)


async def _write_all(
    call: grpc.aio.StreamUnaryCall[Frame, Answer], frames: AsyncGenerator[Frame]
) -> None:
    """Write every frame, or as many as the service wants: it may refuse before the last one.

    gRPC is not given the iterator: a refusal would leave it running inside gRPC's own task, and
    an error of the source (a file that can't be read) would become a mere cancellation.
    """
    async with aclosing(frames):
        async for frame in frames:
            try:
                await call.write(frame)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                return  # the call is over; awaiting it tells why
    await call.done_writing()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _client_closed() -> CallError:
    return CallError(
        "CANCELLED", "The client was closed during the upload.", code=grpc.StatusCode.CANCELLED
    )


def _upload_error(error: grpc.aio.AioRpcError) -> CallError:
    """The refusal; UNAVAILABLE where gRPC lost it.

    A write that meets the end of the call makes grpc.aio forget the status that was just
    received. An upload may be repeated, and the repeat is told.
    """
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _STATUS_LOST:
        return CallError(
            "UNAVAILABLE",
            "The service ended the upload early, and its reason was lost on the way.",
            code=grpc.StatusCode.UNAVAILABLE,
        )
    return call_error(error)


async def _pieces(source: Source) -> AsyncGenerator[bytes]:
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, Path):
        # Not in a thread: a cancellation while it opens would leave the file open.
        file = source.open("rb")
        try:
            while piece := await asyncio.to_thread(file.read, _READ_BYTES):
                yield piece
        finally:
            file.close()
    else:
        async for piece in source:
            yield piece

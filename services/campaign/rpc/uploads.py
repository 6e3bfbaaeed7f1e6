"""Files that come in as a stream: a header first, then chunks of at most 64 KiB."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc.aio

from outreach.errors import OutreachError, Violation
from outreach.v1 import attachment_pb2, contact_pb2, suppression_pb2

CHUNK_BYTES_MAX = 64 * 1024
#: An upload that sends nothing for so long is given up.
UPLOAD_IDLE_SECONDS_MAX = 60.0
UPLOAD_SECONDS_MAX = 1_800.0
#: Of one kind; each takes up to the largest file on the local disk, and more of them wait.
UPLOADS_AT_ONCE_MAX = 64

Frame = TypeVar(
    "Frame",
    contact_pb2.UploadContactsRequest,
    attachment_pb2.UploadAttachmentRequest,
    suppression_pb2.ImportSuppressionsRequest,
)


@asynccontextmanager
async def limited_upload() -> AsyncGenerator[None]:
    """Ends an upload that takes too long, however it is kept going."""
    try:
        async with asyncio.timeout(UPLOAD_SECONDS_MAX) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise  # the database's
        raise _too_slow() from None


async def header_frame(frames: AsyncIterator[Frame]) -> Frame:
    """The first frame, which has to be the header."""
    first = await _next_frame(frames)
    if first is None or first.WhichOneof("frame") != "header":
        raise OutreachError.invalid(
            Violation("header", "FIELD_REQUIRED", "The first frame has to be the header.")
        )
    return first


async def chunks_of(
    frames: AsyncIterator[Frame], context: grpc.aio.ServicerContext[Any, Any]
) -> AsyncGenerator[bytes]:
    """The file; it is complete when this ends by itself."""
    while (frame := await _next_frame(frames)) is not None:
        yield _chunk_of(frame)
    # gRPC ends the frames in the same way when the call is broken off. Something is written before
    # the file is taken for complete: on a broken call that fails, or the cancellation comes first.
    await context.send_initial_metadata(())


async def _next_frame(frames: AsyncIterator[Frame]) -> Frame | None:
    """None: the caller has ended its stream."""
    try:
        async with asyncio.timeout(UPLOAD_IDLE_SECONDS_MAX):
            return await anext(frames, None)
    except TimeoutError:
        raise _too_slow() from None


def _chunk_of(frame: Frame) -> bytes:
    if frame.WhichOneof("frame") != "chunk":
        raise OutreachError.invalid(
            Violation("chunk", "FIELD_REQUIRED", "After the header only chunks of the file follow.")
        )
    if len(frame.chunk) > CHUNK_BYTES_MAX:
        raise OutreachError.invalid(
            Violation("chunk", "FIELD_TOO_LONG", f"At most {CHUNK_BYTES_MAX:,} bytes a chunk.")
        )
    return frame.chunk


def _too_slow() -> OutreachError:
    return OutreachError("DEADLINE_EXCEEDED", "The file came in too slowly; upload it again.")

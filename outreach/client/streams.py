"""Streams that were cut: whether they can be gone on with, and the pause before."""

from __future__ import annotations

import asyncio
import random

import grpc

from outreach.client.errors import CallError, call_error

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 5.0

# The stream was cut; what it told so far holds, and it can go on from the last token:
# UNAVAILABLE (gone, draining), RESOURCE_EXHAUSTED (this reader was too slow), INTERNAL and UNKNOWN
# without a reason of ours (a connection reset in the middle of a response), CANCELLED (the other
# side's process is ending; a cancellation of our own never comes as a status).
_CUT_CODES = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
_RESET_CODES = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}


class Pauses:
    """Pauses between connections: doubling, with jitter, small again after each response."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._seconds = PAUSE_SECONDS_MIN

    async def wait(self) -> None:
        await asyncio.sleep(random.uniform(self._seconds / 2, self._seconds))
        self._seconds = min(self._seconds * 2, PAUSE_SECONDS_MAX)


def cut(error: grpc.aio.AioRpcError | TimeoutError) -> CallError:
    """What cut the stream, if it can go on; else the error is raised."""
    if isinstance(error, TimeoutError):
        return CallError(
            "UNAVAILABLE",
            "The service sent nothing, not even a heartbeat.",
            code=grpc.StatusCode.UNAVAILABLE,
        )
    known = call_error(error)
    reset = known.code in _RESET_CODES and not known.from_service
    if known.code in _CUT_CODES or reset:
        return known
    raise known from error


def ended() -> CallError:
    """The stream is over, and should not be."""
    return CallError(
        "UNAVAILABLE", "The service ended the stream.", code=grpc.StatusCode.UNAVAILABLE
    )

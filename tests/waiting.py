"""Waiting for a condition, the only way a test waits."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

_PAUSE_SECONDS_MIN = 0.002
_PAUSE_SECONDS_MAX = 0.1


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]], timeout_seconds: float = ..., what: str = ...
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T], timeout_seconds: float = ..., what: str = ...
) -> T: ...


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    timeout_seconds: float = 60.0,
    what: str = "the condition",
) -> T:
    """Ask `condition` until it answers something true, and return that.

    The time is a guard against a hang, on a machine that is ten times slower too; it measures nothing.

    Raises:
        AssertionError: it did not within `timeout_seconds`; with the last answer. What the
            condition raises ends the wait at once.
    """
    deadline = time.monotonic() + timeout_seconds
    pause_seconds = _PAUSE_SECONDS_MIN
    while True:
        answer = condition()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {timeout_seconds:g} s; last: {value!r}")
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, _PAUSE_SECONDS_MAX)

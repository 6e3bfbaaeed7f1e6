"""Tasks that run until they are cancelled: an end that nobody asked for is a fault, and never goes unseen."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


class BackgroundTaskEnded(Exception):
    """A task that should run until cancelled is over. The process can't go on as if it were whole."""


async def until_cancelled(
    name: str, work: Coroutine[Any, Any, None], *, stopping: asyncio.Event | None = None
) -> None:
    """Run `work` until this task is cancelled; once `stopping` is set it may also end by itself.

    To be put around each task of a TaskGroup that must not end by itself: a TaskGroup takes a return, and a
    CancelledError that nobody asked for (grpc.aio raises some), for a task's good end.

    Raises:
        BackgroundTaskEnded: `work` returned, or ended by a CancelledError that is not ours.
        Exception: what `work` raised.
    """
    # A task of its own, which hosts the TaskGroups of `work`: these may leave a mark of cancellation on their host
    # (Python 3.11), and here the mark is to be trusted.
    task = asyncio.create_task(work, name=name)
    stray = False
    try:
        await task
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        stray = True
    if _is_cancelled() or (stopping is not None and stopping.is_set()):
        return
    _log.error("background_task_ended", task=name, cancelled=stray)
    raise BackgroundTaskEnded(f"{name} ended though nothing stopped it")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

"""Cancellation that got lost."""

import asyncio


def raise_if_cancelled() -> None:
    """To be called once a turn in every loop that runs "until cancelled".

    `asyncio.wait_for` of Python 3.11 (used inside nats-py) swallows a cancellation that arrives together with the
    result (python/cpython#86296; mended in 3.12). The task still knows that it was cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

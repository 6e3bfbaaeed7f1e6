"""A task that should run until cancelled does not end unseen."""

import asyncio

import pytest

from outreach.background import BackgroundTaskEnded, until_cancelled


async def _returns() -> None:
    await asyncio.sleep(0)


async def _ends_as_if_cancelled() -> None:
    """As a call of grpc.aio that was cancelled does in its reader."""
    await asyncio.sleep(0)
    raise asyncio.CancelledError


@pytest.mark.parametrize("work", [_returns, _ends_as_if_cancelled])
async def test_an_end_that_nobody_asked_for_fails_the_group(work: object) -> None:
    assert callable(work)
    with pytest.RaisesGroup(BackgroundTaskEnded):
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(until_cancelled("work", work()))
            await asyncio.Event().wait()


async def test_a_failure_is_the_groups_failure() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("why")

    with pytest.RaisesGroup(ValueError):
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(until_cancelled("work", fails()))
            await asyncio.Event().wait()


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_cancelled_task_ends_quietly_after_its_work_has(swallows: bool) -> None:
    began, ended = asyncio.Event(), False

    async def works() -> None:
        nonlocal ended
        try:
            began.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended = True
            if not swallows:
                raise

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(until_cancelled("work", works()))
        await began.wait()
        task.cancel()
    assert ended


async def test_once_it_is_stopping_work_may_end_by_itself() -> None:
    stopping = asyncio.Event()
    stopping.set()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(until_cancelled("work", _returns(), stopping=stopping))

"""Large requests on a line that is slow for them: they still leave, one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from outreach.internal.v1 import delivery_pb2
from outreach.sending.journal import Journal
from outreach.sending.outcomes import AccountRefused, Answer, Answered, AttemptOutcome, NotSent
from outreach.sending.provider import WindowOver
from outreach.sending.slots import Claim, Slots
from outreach.vocabulary import Channel, Outcome
from tests.waiting import eventually

Messages = Sequence[delivery_pb2.ClaimedMessage]


class Line:
    """A provider behind a line that all uploads share: `upload_seconds` for one alone."""

    channel = Channel.EMAIL
    messages_per_request_max = 1_000

    def __init__(self, upload_seconds: float, request_seconds_max: float) -> None:
        self.upload_seconds = upload_seconds
        self.request_seconds_max = request_seconds_max
        self.under_way = 0
        self.requests = 0

    def prepare(self, *_: object) -> None:
        raise AssertionError("not asked for in these tests")

    async def look_up(self, *_: object) -> None:
        raise AssertionError("not asked for in these tests")

    async def send(self, prepared: None, messages: Messages, begin: Callable[[], None]) -> Answer:
        self.requests += 1
        self.under_way += 1
        try:
            await asyncio.sleep(0)  # those that start together see each other
            seconds = self.upload_seconds * self.under_way
            await asyncio.sleep(min(seconds, self.request_seconds_max))
            if seconds > self.request_seconds_max:
                return NotSent("TimeoutError")
            begin()
        except WindowOver:
            return NotSent("WindowOver")
        finally:
            self.under_way -= 1
        return Answered([AttemptOutcome(m.number, m.attempt, Outcome.ACCEPTED) for m in messages])


class Campaign:
    """Its claims, each of one message; one is claimed whenever the lane has room."""

    def __init__(self, slots: Slots[None], index: int, messages: int, window: float) -> None:
        self.slots = slots
        self.index = index
        self.window = window
        self.queued = list(range(1, messages + 1))
        self.accepted: list[int] = []

    def _settle(self, outcomes: Sequence[AttemptOutcome]) -> None:
        for outcome in outcomes:
            to = self.accepted if outcome.outcome is Outcome.ACCEPTED else self.queued
            to.append(outcome.number)

    async def claim(self) -> None:
        lane = self.slots.lane(UUID(int=1))
        while True:
            await lane.room()
            asked_seconds = time.monotonic()
            await asyncio.sleep(0.005)  # as an answer takes its time
            if self.queued:
                claim = Claim(
                    campaign_id=bytes(16),
                    instance_index=self.index,
                    prepared=None,
                    deadline_seconds=asked_seconds + self.window,
                    settle=self._settle,
                    refuse=_never,
                    is_over=lambda: False,
                )
                number = self.queued.pop(0)
                self.slots.submit(
                    lane, claim, [delivery_pb2.ClaimedMessage(number=number, attempt=1)]
                )


def _never(refusal: AccountRefused) -> None:
    raise AssertionError(refusal)


@asynccontextmanager
async def campaign_on(
    directory: Path, line: Any, *, window: float, concurrency: int, messages: int
) -> AsyncIterator[Campaign]:
    journal = Journal(directory)
    slots: Slots[None] = Slots(
        line,
        journal,
        slots_max=concurrency,
        concurrency_start=concurrency,
        upload_seconds_max=line.request_seconds_max,
    )
    campaign = Campaign(slots, journal.open_instance(uuid4()), messages, window)
    tasks = [asyncio.create_task(slots.run()), asyncio.create_task(campaign.claim())]
    try:
        yield campaign
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        journal.close()


async def test_an_upload_that_takes_most_of_a_window_does_not_make_all_others_late(
    tmp_path: Path,
) -> None:
    """Else each is uploaded, found late, handed back, and uploaded again, for ever."""
    line = Line(upload_seconds=0.24, request_seconds_max=0.9)
    async with campaign_on(tmp_path, line, window=0.3, concurrency=1, messages=8) as campaign:
        await eventually(lambda: len(campaign.accepted) == 8, 60, "all are sent")


async def test_uploads_that_take_each_others_time_become_fewer(tmp_path: Path) -> None:
    line = Line(upload_seconds=0.15, request_seconds_max=0.4)
    async with campaign_on(tmp_path, line, window=0.3, concurrency=4, messages=8) as campaign:
        await eventually(lambda: len(campaign.accepted) == 8, 60, "all are sent")

"""Requests that are divided under their claim, and lanes that have to wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.sending.journal import AttemptKey, Journal, read_journal
from outreach.sending.outcomes import (
    AccountRefused,
    Answer,
    Answered,
    AttemptOutcome,
    Divided,
    Throttled,
)
from outreach.sending.slots import Claim, Lane, Slots
from outreach.vocabulary import Channel, FailureReason, Outcome
from tests.waiting import eventually

CAMPAIGN = uuid4()
#: Much longer than a busy machine takes for the few steps in between.
BLOCKED_SECONDS = 4.0
Messages = Sequence[delivery_pb2.ClaimedMessage]


def numbers(messages: Messages) -> list[int]:
    return [message.number for message in messages]


def all_of(messages: Messages, outcome: Outcome) -> list[AttemptOutcome]:
    return [AttemptOutcome(message.number, message.attempt, outcome) for message in messages]


def accepted(messages: Messages) -> Answer:
    return Answered(all_of(messages, Outcome.ACCEPTED))


class ScriptedProvider:
    """Begins every request, and answers what its script says."""

    channel = Channel.EMAIL
    messages_per_request_max = 100

    def __init__(self) -> None:
        self.script: Callable[[Messages], Answer] = accepted
        self.requests: list[list[int]] = []
        self.times: list[float] = []
        self.hold: asyncio.Event | None = None

    def prepare(
        self,
        content: delivery_pb2.CampaignContent,
        account: delivery_pb2.ProviderAccount,
        attachments: Sequence[bytes],
    ) -> None:
        raise AssertionError("not asked for in these tests")

    async def look_up(
        self, prepared: None, attempt: delivery_pb2.UnknownAttempt
    ) -> AttemptOutcome | None:
        raise AssertionError("not asked for in these tests")

    async def send(self, prepared: None, messages: Messages, begin: Callable[[], None]) -> Answer:
        begin()
        self.requests.append(numbers(messages))
        self.times.append(time.monotonic())
        if self.hold is not None:
            await self.hold.wait()
        return self.script(messages)


@dataclass
class Rig:
    slots: Slots[None]
    provider: ScriptedProvider
    journal: Journal
    index: int
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    refusals: list[AccountRefused] = field(default_factory=list)
    is_over: bool = False

    @property
    def lane(self) -> Lane[None]:
        return self.slots.lane(UUID(int=1))

    def journaled(self) -> dict[AttemptKey, int]:
        return read_journal(self.journal.path.read_bytes()).begun

    def claim(self, first: int, last: int, *, window_seconds: float = 120.0) -> None:
        def settle(outcomes: Sequence[AttemptOutcome]) -> None:
            assert outcomes, "nothing to settle"
            for outcome in outcomes:
                assert outcome.number not in self.outcomes, "settled once"
                self.outcomes[outcome.number] = outcome.outcome

        claim = Claim(
            campaign_id=CAMPAIGN.bytes,
            instance_index=self.index,
            prepared=None,
            deadline_seconds=time.monotonic() + window_seconds,
            settle=settle,
            refuse=self.refusals.append,
            is_over=lambda: self.is_over,
        )
        messages = [
            delivery_pb2.ClaimedMessage(number=number, attempt=1)
            for number in range(first, last + 1)
        ]
        self.slots.submit(self.lane, claim, messages)

    async def settled(self, count: int) -> None:
        await eventually(lambda: len(self.outcomes) == count, 60, "all settled")


@asynccontextmanager
async def rig_of(directory: Path, *, concurrency: int = 1) -> AsyncIterator[Rig]:
    journal = Journal(directory)
    provider = ScriptedProvider()
    slots = Slots(provider, journal, slots_max=concurrency, concurrency_start=concurrency)
    running = asyncio.create_task(slots.run())
    try:
        yield Rig(slots, provider, journal, journal.open_instance(uuid4()))
        assert not running.done(), "a slot ended"
    finally:
        running.cancel()
        await asyncio.wait({running})
        journal.close()


async def test_parts_come_first_each_as_a_request_and_each_message_has_one_outcome(
    tmp_path: Path,
) -> None:
    def script(messages: Messages) -> Answer:
        if len(messages) == 10:
            return Divided(
                all_of(messages[:2], Outcome.REJECTED), [messages[2:5], messages[5:6], messages[6:]]
            )
        return accepted(messages)

    async with rig_of(tmp_path) as rig:
        rig.provider.script = script
        rig.claim(1, 10)
        rig.claim(11, 13)
        await rig.settled(13)
        assert rig.provider.requests == [
            [*range(1, 11)],
            [3, 4, 5],
            [6],
            [7, 8, 9, 10],
            [11, 12, 13],
        ]
        rejected = {number for number, what in rig.outcomes.items() if what is Outcome.REJECTED}
        assert rejected == {1, 2}


async def test_a_divided_request_has_not_begun_until_its_parts_do(tmp_path: Path) -> None:
    """A kill between the two must not leave anybody in doubt."""
    seen: list[set[int]] = []

    async with rig_of(tmp_path) as rig:

        def script(messages: Messages) -> Answer:
            seen.append({number for _, number, _ in rig.journaled()})
            if len(messages) == 4:
                return Divided([], [messages[:2], messages[2:]])
            return accepted(messages)

        rig.provider.script = script
        rig.claim(1, 4)
        await rig.settled(4)
    assert seen == [{1, 2, 3, 4}, {1, 2}, {1, 2, 3, 4}], (
        "the accepted ones stay until they are reported"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda m: Divided([], [m]), id="as large as before"),
        pytest.param(lambda m: Divided([], [m[:1]]), id="one is missing"),
        pytest.param(lambda m: Divided([], [m[:1], m[:1], m[1:]]), id="one is in two parts"),
        pytest.param(
            lambda m: Divided(all_of(m[:1], Outcome.REJECTED), [m[:2], m[2:]]),
            id="one has an outcome and is sent",
        ),
        pytest.param(lambda m: Divided([], [m[:2], [], m[2:]]), id="an empty part"),
    ],
)
async def test_an_adapter_that_divides_wrongly_sends_nothing_twice(
    tmp_path: Path, wrong: Callable[[Messages], Answer]
) -> None:
    async with rig_of(tmp_path) as rig:
        rig.provider.script = wrong
        rig.claim(1, 3)
        await rig.settled(3)
        assert set(rig.outcomes.values()) == {Outcome.HANDED_BACK}
        assert len(rig.provider.requests) == 1


async def test_parts_of_a_campaign_that_failed_meanwhile_are_handed_back(tmp_path: Path) -> None:
    async with rig_of(tmp_path) as rig:

        def script(messages: Messages) -> Answer:
            if len(messages) == 6:
                return Divided([], [messages[:3], messages[3:]])
            rig.is_over = True
            return AccountRefused(FailureReason.CONTENT_REJECTED, "HTTP 400 from")

        rig.provider.script = script
        rig.claim(1, 6)
        await rig.settled(6)
        assert len(rig.refusals) == 1
        assert rig.provider.requests == [[1, 2, 3, 4, 5, 6], [1, 2, 3]]
        assert set(rig.outcomes.values()) == {Outcome.HANDED_BACK}


async def test_parts_are_handed_back_when_the_sender_drains(tmp_path: Path) -> None:
    async with rig_of(tmp_path) as rig:
        rig.provider.hold = asyncio.Event()
        rig.provider.script = lambda messages: Divided(
            all_of(messages[:1], Outcome.REJECTED), [messages[1:]]
        )
        rig.claim(1, 5)
        await eventually(lambda: rig.provider.requests, 60, "under way")
        rig.slots.drain()
        rig.provider.hold.set()
        await rig.settled(5)
        assert rig.outcomes == {1: Outcome.REJECTED} | dict.fromkeys(
            range(2, 6), Outcome.HANDED_BACK
        )


async def test_a_lane_that_must_wait_sends_and_claims_nothing_until_then(tmp_path: Path) -> None:
    async with rig_of(tmp_path, concurrency=2) as rig:
        rig.provider.script = lambda messages: Throttled(retry_after_seconds=BLOCKED_SECONDS)
        rig.claim(1, 10)
        rig.claim(11, 20, window_seconds=0.3)  # too short to wait
        await eventually(lambda: rig.lane.blocked_seconds > 0, 60, "blocked")
        rig.provider.script = accepted
        assert await rig.lane.room() == 0, "nothing is claimed for it"
        rig.claim(21, 30)
        rig.claim(31, 40, window_seconds=0.2)
        before = len(rig.provider.requests)
        await rig.settled(40)
        begun = rig.provider.times
        assert begun[before] >= begun[0] + BLOCKED_SECONDS
        handed_back = {n for n, what in rig.outcomes.items() if what is Outcome.HANDED_BACK}
        assert handed_back == {*range(11, 21), *range(31, 41)}
        assert await rig.lane.room() > 0
        assert rig.lane.pacing.limit == 2, "as many at once as before: they were only too soon"


async def test_what_was_under_way_when_a_lane_was_blocked_goes_on(tmp_path: Path) -> None:
    async with rig_of(tmp_path, concurrency=2) as rig:
        hold = rig.provider.hold = asyncio.Event()
        rig.claim(1, 10)
        rig.claim(11, 20)
        await eventually(lambda: len(rig.provider.requests) == 2, 60, "both under way")
        rig.lane.block(0.2)
        hold.set()
        await rig.settled(20)
        assert set(rig.outcomes.values()) == {Outcome.ACCEPTED}


async def test_another_organisations_lane_is_not_blocked(tmp_path: Path) -> None:
    async with rig_of(tmp_path) as rig:
        rig.provider.script = lambda messages: Throttled(retry_after_seconds=100)
        rig.claim(1, 5, window_seconds=50)
        await rig.settled(5)
        assert set(rig.outcomes.values()) == {Outcome.HANDED_BACK}
        assert rig.lane.blocked_seconds > 90
        other = rig.slots.lane(UUID(int=2))
        assert other.blocked_seconds == 0
        assert await other.room() > 0


async def test_who_waits_for_room_is_told_when_the_lane_is_blocked(tmp_path: Path) -> None:
    """Else a job would keep its turn to claim from other organisations' jobs."""
    async with rig_of(tmp_path) as rig:
        rig.provider.hold = asyncio.Event()
        rig.claim(1, 500)
        await eventually(lambda: rig.provider.requests, 60, "one under way")
        room = asyncio.create_task(rig.lane.room())
        await asyncio.sleep(0)
        assert not room.done(), "four parcels lie ready"
        rig.provider.script = lambda messages: Throttled(retry_after_seconds=100)
        rig.provider.hold.set()
        assert await asyncio.wait_for(room, 60) == 0


async def test_few_large_parcels_lie_ready_and_many_small_ones(tmp_path: Path) -> None:
    async with rig_of(tmp_path, concurrency=4) as rig:
        assert await rig.lane.room() == 8 * 100
        rig.provider.messages_per_request_max = 1
        small = Slots(rig.provider, rig.journal, slots_max=4, concurrency_start=4)
        assert await small.lane(UUID(int=1)).room() == 2 * 4 + 16

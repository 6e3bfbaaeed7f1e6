"""What a sender does with claims of a run that is over: nothing of them begins, all of it is handed back at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.jetstream.stops import Stop
from outreach.sending.journal import Journal, read_journal
from outreach.sending.outcomes import (
    AccountRefused,
    Answer,
    Answered,
    AttemptOutcome,
    Divided,
    NotSent,
    Throttled,
)
from outreach.sending.provider import WindowOver
from outreach.sending.slots import Claim, Lane, Slots
from outreach.sending.stops import RUNS_MAX, OverRuns
from outreach.vocabulary import Channel, Outcome
from tests.waiting import eventually

CAMPAIGN = uuid4()
RUN, OTHER_RUN = (CAMPAIGN, 1), (CAMPAIGN, 2)


class HeldProvider:
    """Waits before it begins, and again before it answers, until the test lets it go on."""

    channel = Channel.SMS
    messages_per_request_max = 2

    def __init__(self) -> None:
        self.connecting: list[int] = []
        self.begun: list[int] = []
        self.connect = asyncio.Event()
        self.answer = asyncio.Event()
        self.throttle = False
        self.divide = False

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

    async def send(
        self,
        prepared: None,
        messages: Sequence[delivery_pb2.ClaimedMessage],
        begin: Callable[[], None],
    ) -> Answer:
        numbers = [message.number for message in messages]
        self.connecting += numbers
        await self.connect.wait()
        if self.divide and len(messages) > 1:
            return Divided([], [[message] for message in messages])
        try:
            begin()
        except WindowOver:
            return NotSent("WindowOver")
        if self.throttle:
            return Throttled(retry_after_seconds=30)
        self.begun += numbers
        await self.answer.wait()
        return Answered([AttemptOutcome(m.number, m.attempt, Outcome.ACCEPTED) for m in messages])


class Rig:
    def __init__(self, slots: Slots[None], provider: HeldProvider, journal: Journal) -> None:
        self.slots = slots
        self.provider = provider
        self.over = OverRuns()
        self.over.on_over = slots.hand_back_over
        self.outcomes: dict[int, Outcome] = {}
        self._journal = journal
        self._index = journal.open_instance(uuid4())

    def claim(self, *numbers: int, run: tuple[UUID, int] = RUN) -> None:
        def settle(outcomes: Sequence[AttemptOutcome]) -> None:
            for outcome in outcomes:
                assert outcome.number not in self.outcomes, "settled once"
                self.outcomes[outcome.number] = outcome.outcome

        def refuse(refusal: AccountRefused) -> None:
            raise AssertionError("nobody refuses here")

        claim = Claim(
            campaign_id=CAMPAIGN.bytes,
            instance_index=self._index,
            prepared=None,
            deadline_seconds=time.monotonic() + 60,
            settle=settle,
            refuse=refuse,
            is_over=lambda: run in self.over,
        )
        messages = [delivery_pb2.ClaimedMessage(number=n, attempt=1) for n in numbers]
        self.slots.submit(self.lane, claim, messages)

    @property
    def lane(self) -> Lane[None]:
        return self.slots.lane(UUID(int=1))

    def in_journal(self) -> set[int]:
        """Numbers that a kill would leave as begun."""
        return {number for _, number, _ in read_journal(self._journal.path.read_bytes()).begun}


@asynccontextmanager
async def stopping_rig(directory: Path) -> AsyncIterator[Rig]:
    journal = Journal(directory)
    provider = HeldProvider()
    slots = Slots(provider, journal, slots_max=2, concurrency_start=2)
    running = asyncio.create_task(slots.run())
    try:
        yield Rig(slots, provider, journal)
    finally:
        running.cancel()
        await asyncio.wait({running})
        journal.close()


async def test_what_lies_ready_is_handed_back_before_the_stop_returns(tmp_path: Path) -> None:
    async with stopping_rig(tmp_path) as rig:
        rig.provider.connect.set()
        rig.claim(*range(1, 11))
        rig.claim(11, 12, run=OTHER_RUN)
        await eventually(lambda: len(rig.provider.begun) == 4, 60, "two requests are under way")
        assert rig.over.add(RUN)
        assert rig.outcomes == dict.fromkeys(range(5, 11), Outcome.HANDED_BACK)
        rig.provider.answer.set()
        await eventually(lambda: len(rig.outcomes) == 12, 60, "all settled")
        accepted = {n for n, outcome in rig.outcomes.items() if outcome is Outcome.ACCEPTED}
        assert accepted == {1, 2, 3, 4, 11, 12}, "what was under way, and the other run"
        assert sorted(rig.provider.begun) == [1, 2, 3, 4, 11, 12]


async def test_a_request_that_has_not_begun_does_not(tmp_path: Path) -> None:
    """Between the slot and the first byte a connection is made, which takes its time."""
    async with stopping_rig(tmp_path) as rig:
        rig.claim(1, 2)
        await eventually(lambda: rig.provider.connecting == [1, 2], 60, "connecting")
        rig.over.add(RUN)
        assert rig.outcomes == {}
        rig.provider.connect.set()
        await eventually(lambda: len(rig.outcomes) == 2, 60, "settled")
        assert set(rig.outcomes.values()) == {Outcome.HANDED_BACK}
        assert rig.provider.begun == []
        assert rig.in_journal() == set()


async def test_what_waits_for_its_next_try_is_handed_back_at_once(tmp_path: Path) -> None:
    async with stopping_rig(tmp_path) as rig:
        rig.provider.connect.set()
        rig.provider.throttle = True
        rig.claim(1, 2)
        rig.claim(3, 4, run=OTHER_RUN)
        await eventually(lambda: len(rig.lane.paused) == 1, 60, "it waits half a minute")
        rig.over.add(RUN)
        assert rig.outcomes == {1: Outcome.HANDED_BACK, 2: Outcome.HANDED_BACK}
        assert not rig.lane.paused
        assert len(rig.lane.ready) == 1, "the other run waits on"


async def test_the_parts_of_a_divided_request_are_handed_back_too(tmp_path: Path) -> None:
    async with stopping_rig(tmp_path) as rig:
        rig.provider.divide = True
        rig.claim(1, 2)
        await eventually(lambda: rig.provider.connecting == [1, 2], 60, "connecting")
        rig.over.add(RUN)
        rig.provider.connect.set()
        await eventually(lambda: len(rig.outcomes) == 2, 60, "settled")
        assert set(rig.outcomes.values()) == {Outcome.HANDED_BACK}
        assert rig.provider.begun == []


def test_a_bounded_number_of_runs_is_remembered() -> None:
    over = OverRuns()
    told: list[int] = []
    over.on_over = lambda: told.append(1)
    campaigns = [uuid4() for _ in range(RUNS_MAX + 1)]
    assert all(over.add((campaign, 1)) for campaign in campaigns)
    assert not over.add((campaigns[-1], 1))
    assert len(told) == RUNS_MAX + 1
    assert (campaigns[0], 1) not in over
    assert all((campaign, 1) in over for campaign in campaigns[1:])
    assert (campaigns[-1], 2) not in over, "a retry is another run"


def test_a_stop_is_ids_only_and_anything_else_is_none() -> None:
    stop = Stop(CAMPAIGN, 3)
    assert Stop.decode(stop.encode()) == stop
    for wrong in (
        b"",
        b"[]",
        b"1",
        b"{}",
        b'{"campaign_id":1,"run":1}',
        b'{"campaign_id":"x","run":1}',
    ):
        with pytest.raises(ValueError, match="not a stop"):
            Stop.decode(wrong)

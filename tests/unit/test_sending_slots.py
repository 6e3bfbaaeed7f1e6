"""The send window of a claim, and what a request that created nothing leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4
from weakref import WeakSet

from outreach.internal.v1 import delivery_pb2
from outreach.sending.journal import AttemptKey, Journal, read_journal
from outreach.sending.outage import REST_SECONDS_MIN, UNKNOWN_IN_A_ROW_MAX
from outreach.sending.outcomes import Answer, Answered, AttemptOutcome, NotSent, Throttled
from outreach.sending.provider import WindowOver
from outreach.sending.slots import Claim, Slots
from outreach.vocabulary import Channel, Outcome
from tests.waiting import eventually

CAMPAIGN = uuid4()


class SlowProvider:
    """Takes so long for a connection before it begins; refuses none."""

    channel = Channel.SMS
    messages_per_request_max = 1

    def __init__(self, journal: Journal) -> None:
        self.connect_seconds = 0.0
        self.throttled = 0
        self.unknown = 0
        self.starts = 0
        self.fault: Exception | None = None
        self.sent: list[int] = []
        self.times: list[float] = []
        self.begun_in_journal: list[bool] = []
        self._journal = journal

    def journaled(self) -> dict[AttemptKey, int]:
        """What a kill would leave as begun now."""
        return read_journal(self._journal.path.read_bytes()).begun

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
        (message,) = messages
        self.starts += 1
        await asyncio.sleep(self.connect_seconds)
        try:
            begin()
        except WindowOver:
            return NotSent("WindowOver")
        key = (CAMPAIGN.bytes, message.number, message.attempt)
        self.begun_in_journal.append(key in self.journaled())
        if self.throttled:
            self.throttled -= 1
            return Throttled()
        self.sent.append(message.number)
        self.times.append(time.monotonic())
        if self.unknown:
            self.unknown -= 1
            return Answered([AttemptOutcome(message.number, message.attempt, Outcome.UNKNOWN)])
        if self.fault is not None:
            raise self.fault
        return Answered([AttemptOutcome(message.number, message.attempt, Outcome.ACCEPTED)])


class Rig:
    def __init__(self, slots: Slots[None], provider: SlowProvider, index: int) -> None:
        self.provider = provider
        self.outcomes: dict[int, Outcome] = {}
        #: Of each claim that something still names, what settles it.
        self.alive: WeakSet[Callable[[Sequence[AttemptOutcome]], None]] = WeakSet()
        self._slots = slots
        self._index = index

    def claim(self, number: int, *, window_seconds: float) -> None:
        def settle(outcomes: Sequence[AttemptOutcome]) -> None:
            for outcome in outcomes:
                assert outcome.number not in self.outcomes, "settled once"
                self.outcomes[outcome.number] = outcome.outcome

        self.alive.add(settle)
        claim = Claim(
            campaign_id=CAMPAIGN.bytes,
            instance_index=self._index,
            prepared=None,
            deadline_seconds=time.monotonic() + window_seconds,
            settle=settle,
            refuse=lambda refusal: None,
            is_over=lambda: False,
        )
        message = delivery_pb2.ClaimedMessage(number=number, attempt=1)
        self._slots.submit(self._slots.lane(UUID(int=1)), claim, [message])


@asynccontextmanager
async def slots_rig(directory: Path) -> AsyncIterator[Rig]:
    journal = Journal(directory)
    index = journal.open_instance(uuid4())
    provider = SlowProvider(journal)
    slots = Slots(provider, journal, slots_max=2, concurrency_start=2)
    running = asyncio.create_task(slots.run())
    try:
        yield Rig(slots, provider, index)
    finally:
        running.cancel()
        await asyncio.wait({running})
        journal.close()


async def test_a_window_that_ends_while_a_connection_is_made_is_over(tmp_path: Path) -> None:
    async with slots_rig(tmp_path) as rig:
        rig.provider.connect_seconds = 0.3
        rig.claim(1, window_seconds=0.2)
        rig.claim(2, window_seconds=120)
        await eventually(lambda: len(rig.outcomes) == 2, 60, "both settled")
        assert rig.outcomes == {1: Outcome.HANDED_BACK, 2: Outcome.ACCEPTED}
        assert rig.provider.sent == [2]


async def test_an_attempt_is_in_the_journal_when_its_request_leaves(tmp_path: Path) -> None:
    async with slots_rig(tmp_path) as rig:
        rig.claim(1, window_seconds=120)
        await eventually(lambda: rig.outcomes, 60, "settled")
        assert rig.provider.begun_in_journal == [True]


async def test_idle_slots_keep_nothing_of_what_they_sent(tmp_path: Path) -> None:
    """Neither recipients nor attachments."""
    async with slots_rig(tmp_path) as rig:
        for number in range(1, 9):
            rig.claim(number, window_seconds=120)
        await eventually(lambda: len(rig.outcomes) == 8, 60, "all settled")
        await eventually(lambda: not rig.alive, 60, "no claim is kept")


async def test_a_throttled_attempt_has_not_begun_until_it_is_tried_again(tmp_path: Path) -> None:
    """A kill in the pause must not leave it in doubt."""
    async with slots_rig(tmp_path) as rig:
        provider = rig.provider
        provider.throttled = 4
        rig.claim(1, window_seconds=120)
        await eventually(
            lambda: provider.begun_in_journal and not provider.journaled(), 60, "in a pause"
        )
        await eventually(lambda: rig.outcomes, 60, "settled")
        assert provider.begun_in_journal == [True] * 5
        assert rig.provider.sent == [1]


async def test_a_fault_of_the_adapter_after_the_beginning_is_unknown_and_not_tried_again(
    tmp_path: Path,
) -> None:
    async with slots_rig(tmp_path) as rig:
        rig.provider.fault = KeyError("a fault")
        rig.claim(1, window_seconds=120)
        await eventually(lambda: rig.outcomes, 60, "settled")
        assert rig.outcomes == {1: Outcome.UNKNOWN}
        assert rig.provider.sent == [1]


async def test_what_waited_past_its_window_is_not_even_started(tmp_path: Path) -> None:
    """Megabytes would be uploaded for nothing."""
    async with slots_rig(tmp_path) as rig:
        rig.claim(1, window_seconds=0)
        await eventually(lambda: rig.outcomes, 60, "settled")
        assert rig.outcomes == {1: Outcome.HANDED_BACK}
        assert rig.provider.starts == 0


async def test_a_provider_that_is_out_is_asked_rarely_until_it_answers(tmp_path: Path) -> None:
    async with slots_rig(tmp_path) as rig:
        # Two at a time: the other one is under way when the last of a row is answered.
        in_doubt_max = UNKNOWN_IN_A_ROW_MAX + 2
        rig.provider.unknown = in_doubt_max
        for number in range(1, 101):
            rig.claim(number, window_seconds=120)
        await eventually(lambda: len(rig.outcomes) == 100)
        last_of_row, *_, first_try = rig.provider.times[UNKNOWN_IN_A_ROW_MAX - 1 :][:3]
        assert first_try - last_of_row >= REST_SECONDS_MIN
        assert Counter(rig.outcomes.values()) == {
            Outcome.UNKNOWN: in_doubt_max,
            Outcome.ACCEPTED: 100 - in_doubt_max,
        }

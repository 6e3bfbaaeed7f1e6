"""The provider: takes requests, answers them or not, and tells later what became of the messages.

Its ledger is the truth that everything else is measured by.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from outreach.internal.v1 import delivery_pb2
from outreach.jetstream.publisher import NotStored
from outreach.sending.attempt_token import AttemptId
from outreach.sending.inbox import Inbox, InboxEntry
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
from outreach.vocabulary import Channel, FailureReason, Outcome
from simulation.clock import START_EPOCH_SECONDS, START_SECONDS
from simulation.scenario import (
    EMAIL_TIMED_OUT_AFTER_SECONDS,
    ORGANISATION_ID,
    REQUEST_SECONDS_MAX,
    Scenario,
)
from simulation.world import Process, World

#: Looked up sooner, a message is not listed yet.
LISTED_AFTER_SECONDS = 0.5
_MAY_EXIST = frozenset({"accepted", "accepted_late", "accepted_failing", "lost", "failing"})


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that left its sender, for one message of it. `may_exist`: nobody can say that it created nothing."""

    campaign_id: UUID
    number: int
    attempt: int
    time: float
    may_exist: bool


@dataclass(eq=False, slots=True)
class Accepted:
    """A message that the provider has taken.

    Attributes:
        happened: what became of it, so far.
        told: outcomes whose receipts were stored by us.
    """

    campaign_id: UUID
    number: int
    attempt: int
    begun_time: float
    time: float
    message_id: str
    is_listed: bool
    outcome: Outcome = Outcome.ACCEPTED
    happened: set[Outcome] = field(default_factory=set)
    told: set[Outcome] = field(default_factory=set)


class RemoteProvider:
    """The provider's side."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.draw = world.random("provider")
        self.begun: list[Begun] = []
        self.accepted: list[Accepted] = []
        #: Where receipts can be taken, by sender.
        self.inboxes: dict[Process, Inbox] = {}
        #: Everything that is going to happen has, and every receipt was stored.
        self.all_told = asyncio.Event()
        self.all_told.set()
        self._pending = 0

    def fate(self) -> str:
        """What becomes of the next request."""
        chance = self.draw.random()
        fates = self.scenario.fates
        for name in fates.__slots__:
            if name in ("lost", "not_sent", "throttled", "failing") and not self.world.is_faulty:
                continue  # these may come again and again, so they have to end some time
            likely = getattr(fates, name)
            if chance < likely:
                return str(name)
            chance -= likely
        return "accepted"

    def accept(self, begun: Begun, answered_in_seconds: float) -> Accepted:
        """Take a message, and plan what is told of it."""
        accepted = Accepted(
            begun.campaign_id,
            begun.number,
            begun.attempt,
            begun.time,
            self.world.now(),
            f"ID{len(self.accepted) + 1}",
            is_listed=self.draw.random() >= self.scenario.receipts.unlisted,
        )
        self.accepted.append(accepted)
        self._tell("accepts", accepted)
        self._plan_receipts(accepted, answered_in_seconds)
        return accepted

    def _plan_receipts(self, accepted: Accepted, answered_in_seconds: float) -> None:
        draw, chances = self.draw, self.scenario.receipts
        early = draw.random() < chances.early
        seconds = draw.uniform(0, answered_in_seconds) if early else 0.05
        outcome = Outcome.FAILED if draw.random() < chances.failed else Outcome.DELIVERED
        late_seconds_max = chances.late_seconds_max
        if draw.random() < chances.deferred:
            self._plan(accepted, Outcome.DEFERRED, seconds)
            if draw.random() < 0.2:
                return  # and never anything more
            # The provider gives up before we do.
            seconds += draw.uniform(0, EMAIL_TIMED_OUT_AFTER_SECONDS / 3)
            late_seconds_max = min(late_seconds_max, EMAIL_TIMED_OUT_AFTER_SECONDS / 3)
        seconds += draw.uniform(0, late_seconds_max)
        self._plan(accepted, outcome, seconds)
        if outcome is Outcome.DELIVERED and draw.random() < chances.failed / 4:
            bounce = self.scenario.channel is Channel.EMAIL
            if bounce:
                self._plan(accepted, Outcome.FAILED, seconds + draw.uniform(0, 3))

    def _plan(self, accepted: Accepted, outcome: Outcome, seconds: float) -> None:
        draw, chances = self.draw, self.scenario.receipts
        self._expect(1)
        self.world.loop.call_later(seconds, self._happen, accepted, outcome)
        if draw.random() < chances.lost:
            return
        for _ in range(2 if draw.random() < chances.doubled else 1):
            # told on its own way: a later event may be told earlier
            told_seconds = seconds + draw.uniform(0, 0.3)
            self._expect(1)
            self.world.loop.call_later(told_seconds, self._send_receipt, accepted, outcome, 0)

    def _expect(self, more: int) -> None:
        """Events that have not happened, and receipts that were not stored yet."""
        self._pending += more
        if self._pending:
            self.all_told.clear()
        else:
            self.all_told.set()

    def _happen(self, accepted: Accepted, outcome: Outcome) -> None:
        self._expect(-1)
        accepted.outcome = outcome
        accepted.happened.add(outcome)
        self._tell(outcome.name, accepted)

    def _send_receipt(self, accepted: Accepted, outcome: Outcome, tries: int) -> None:
        living = [process for process in self.inboxes if process.alive]
        if not living:
            self._try_again(accepted, outcome, tries)
            return
        process = self.draw.choice(living)
        process.start(self._receipt(process, accepted, outcome, tries), "webhook")

    async def _receipt(
        self, process: Process, accepted: Accepted, outcome: Outcome, tries: int
    ) -> None:
        entry = InboxEntry(
            ORGANISATION_ID,
            AttemptId(ORGANISATION_ID, accepted.campaign_id, accepted.number, accepted.attempt),
            {"outcome": outcome.name, "id": accepted.message_id},
            datetime.fromtimestamp(START_EPOCH_SECONDS - START_SECONDS + self.world.now(), UTC),
        )
        entry_id = f"{accepted.message_id}:{outcome.name}"
        try:
            await self.inboxes[process].store(entry, entry_id=entry_id)
        except NotStored:
            self._try_again(accepted, outcome, tries)
        except asyncio.CancelledError:
            self._try_again(accepted, outcome, tries)
            raise
        else:
            self._expect(-1)
            accepted.told.add(outcome)
            self._tell(f"receipt {outcome.name} stored for", accepted)

    def _try_again(self, accepted: Accepted, outcome: Outcome, tries: int) -> None:
        """A webhook that was not answered well comes again."""
        pause = 0.5 * 2 ** min(tries, 4)
        self.world.loop.call_later(pause, self._send_receipt, accepted, outcome, tries + 1)

    def find(self, campaign_id: UUID, number: int, attempt: int) -> Accepted | None:
        """As the list shows it now."""
        listed = self.world.now() - LISTED_AFTER_SECONDS
        for accepted in self.accepted:
            key = (accepted.campaign_id, accepted.number, accepted.attempt)
            if key == (campaign_id, number, attempt) and accepted.time <= listed:
                return accepted if accepted.is_listed else None
        return None

    def fetch(self, message_id: str) -> Accepted:
        """By the provider's own id: what the list leaves out is there."""
        return next(taken for taken in self.accepted if taken.message_id == message_id)

    def _tell(self, what: str, accepted: Accepted) -> None:
        self.world.history.tell(
            "provider",
            f"{what} {accepted.campaign_id.int % 1000}/{accepted.number} attempt {accepted.attempt}",
        )


class Adapter:
    """`outreach.sending.provider.Provider` of one sender; prepared campaigns are their ids."""

    def __init__(self, remote: RemoteProvider, process: Process) -> None:
        self._remote = remote
        self._world = remote.world
        self._process = process
        self._draw = remote.world.random(f"adapter:{process.name}")
        #: Messages in requests that have begun and whose outcome is not told.
        self.in_flight: set[tuple[UUID, int, int]] = set()

    @property
    def channel(self) -> Channel:
        return self._remote.scenario.channel

    @property
    def messages_per_request_max(self) -> int:
        return self._remote.scenario.per_request

    def prepare(
        self,
        content: delivery_pb2.CampaignContent,
        account: delivery_pb2.ProviderAccount,  # noqa: ARG002 - there is one
        attachments: Sequence[bytes],  # noqa: ARG002 - there are none
    ) -> UUID:
        return UUID(content.campaign_id)

    async def send(
        self,
        prepared: UUID,
        messages: Sequence[delivery_pb2.ClaimedMessage],
        begin: Callable[[], None],
    ) -> Answer:
        draw = self._draw
        await asyncio.sleep(draw.uniform(0, 0.02))
        if self._world.is_faulty and draw.random() < 0.02:
            await asyncio.sleep(
                draw.uniform(0, 3)
            )  # a slow upload, or a process that was suspended
        self._process.require_alive()
        fate = self._remote.fate()
        if fate == "not_sent":
            return NotSent("ConnectError")
        try:
            begin()
        except (WindowOver, OSError) as error:
            return NotSent(type(error).__name__)
        now = self._world.now()
        may_exist = fate in _MAY_EXIST
        begun = [Begun(prepared, m.number, m.attempt, now, may_exist) for m in messages]
        self._remote.begun += begun
        self._tell(f"begins, will be {fate}", messages)
        self._world.reached("request begun", self._process)
        keys = {(prepared, m.number, m.attempt) for m in messages}
        self.in_flight |= keys
        try:
            return await self._request(fate, messages, begun)
        finally:
            if self._process.alive:
                self.in_flight -= keys

    def _tell(self, what: str, messages: Sequence[delivery_pb2.ClaimedMessage]) -> None:
        if self._world.history.is_kept:
            attempts = ", ".join(f"{m.number} attempt {m.attempt}" for m in messages)
            self._world.history.tell(self._process.name, f"{attempts}: {what}")

    async def _request(
        self, fate: str, messages: Sequence[delivery_pb2.ClaimedMessage], begun: Sequence[Begun]
    ) -> Answer:
        way_max = self._remote.scenario.way_seconds_max
        there, back = self._draw.uniform(0.002, way_max), self._draw.uniform(0.002, way_max)
        if fate in ("accepted", "accepted_late", "accepted_failing"):
            # on its way by itself: the sender's death does not call it back
            accepted: list[Accepted] = []
            self._world.loop.call_later(there, self._arrive, begun, back, accepted)
            if fate == "accepted_late":
                await asyncio.sleep(REQUEST_SECONDS_MAX)
                return _all(messages, Outcome.UNKNOWN)
            await asyncio.sleep(there + back)
            if fate == "accepted_failing":
                return _all(messages, Outcome.UNKNOWN)
            return _accepted(messages, accepted)
        if fate == "lost":
            await asyncio.sleep(REQUEST_SECONDS_MAX)
            return _all(messages, Outcome.UNKNOWN)
        await asyncio.sleep(there + back)
        return self._refusal(fate, messages)

    def _arrive(self, begun: Sequence[Begun], back: float, accepted: list[Accepted]) -> None:
        accepted += [self._remote.accept(one, back) for one in begun]

    def _refusal(self, fate: str, messages: Sequence[delivery_pb2.ClaimedMessage]) -> Answer:
        if fate == "failing":
            return _all(messages, Outcome.UNKNOWN)
        if fate == "throttled":
            chance = self._draw.random()
            return Throttled(retry_after_seconds=self._draw.uniform(0, 2) if chance < 0.3 else None)
        if fate == "account":
            return AccountRefused(FailureReason.ACCOUNT_PROBLEM, "20003")
        outcome = Outcome.OPTED_OUT if fate == "opted_out" else Outcome.REJECTED
        refused = _outcome(messages[0], outcome)
        if len(messages) == 1:
            return Answered([refused])
        return Divided([refused], [messages[1:]])

    async def look_up(
        self, prepared: UUID, attempt: delivery_pb2.UnknownAttempt
    ) -> AttemptOutcome | None:
        await asyncio.sleep(self._draw.uniform(0.01, 0.1))
        self._process.require_alive()
        if self._world.is_faulty and self._draw.random() < 0.1:
            return None
        message = attempt.message
        if attempt.provider_message_id:
            fetched = self._remote.fetch(attempt.provider_message_id)
            if fetched.outcome is Outcome.ACCEPTED:
                return _outcome(message, Outcome.NOT_FOUND)
            return _outcome(message, fetched.outcome, fetched.message_id)
        found = self._remote.find(prepared, message.number, message.attempt)
        if found is None:
            return _outcome(message, Outcome.NOT_FOUND)
        return _outcome(message, found.outcome, found.message_id)


def interpret(entry: InboxEntry) -> AttemptOutcome | None:
    """What a stored receipt means."""
    assert entry.attempt is not None
    outcome = Outcome[entry.fields["outcome"]]
    message = cast("delivery_pb2.ClaimedMessage", entry.attempt)
    return _outcome(message, outcome, entry.fields["id"])


def _outcome(
    message: delivery_pb2.ClaimedMessage, outcome: Outcome, message_id: str = ""
) -> AttemptOutcome:
    failed = outcome in (Outcome.REJECTED, Outcome.FAILED)
    return AttemptOutcome(
        message.number,
        message.attempt,
        outcome,
        provider_message_id=message_id,
        failure_reason=FailureReason.UNREACHABLE if failed else None,
        segments=1 if outcome is Outcome.ACCEPTED else 0,
    )


def _all(messages: Sequence[delivery_pb2.ClaimedMessage], outcome: Outcome) -> Answered:
    return Answered([_outcome(message, outcome) for message in messages])


def _accepted(
    messages: Sequence[delivery_pb2.ClaimedMessage], accepted: Sequence[Accepted]
) -> Answered:
    return Answered(
        [
            _outcome(message, Outcome.ACCEPTED, taken.message_id)
            for message, taken in zip(messages, accepted, strict=True)
        ]
    )

"""Slots: the tasks that have requests under way. One lane an organisation, each with its own limit.

A slot takes the next parcel (what goes into one request) of a lane that may send more, sends it,
and hands the outcomes over. Slots live as long as the process: nothing is created per message.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic
from uuid import UUID

import structlog

from outreach.crash_points import reached
from outreach.internal.v1 import delivery_pb2
from outreach.sending.journal import Journal
from outreach.sending.outage import OutageGuard
from outreach.sending.outcomes import (
    AccountRefused,
    Answer,
    Answered,
    AttemptOutcome,
    Divided,
    NotSent,
    Throttled,
)
from outreach.sending.pacing import AdaptiveConcurrency
from outreach.sending.provider import PreparedT, Provider, WindowOver
from outreach.vocabulary import Outcome

#: After a refusal the next try waits this long, then twice as long each time, give or take 10 %.
RETRY_SECONDS_MIN: Final = 0.1
RETRY_SECONDS_MAX: Final = 2.0
#: A provider's own time to wait is believed up to this; then it is asked again.
RETRY_AFTER_SECONDS_MAX: Final = 300.0
#: Parcels of one message that lie ready beyond two rounds; fewer of larger ones.
READY_MESSAGES_MORE: Final = 16
#: With more lanes than this, those without work are forgotten.
LANES_MAX: Final = 1_000

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Claim(Generic[PreparedT]):
    """Messages claimed together. `settle` gets each outcome exactly once.

    `deadline_seconds` on `time.monotonic`. `refuse`: the provider refuses the account. `is_over`:
    what has not begun is handed back.
    """

    campaign_id: bytes
    instance_index: int
    prepared: PreparedT
    deadline_seconds: float
    settle: Callable[[Sequence[AttemptOutcome]], None]
    refuse: Callable[[AccountRefused], None]
    is_over: Callable[[], bool]


@dataclass(eq=False, slots=True)
class _Parcel(Generic[PreparedT]):
    claim: Claim[PreparedT]
    messages: Sequence[delivery_pb2.ClaimedMessage]
    pause_seconds: float = RETRY_SECONDS_MIN


class _Begin:
    """What a provider calls before a request can be whole."""

    __slots__ = (
        "_attempts",
        "_campaign_id",
        "_deadline",
        "_index",
        "_is_over",
        "_journal",
        "begun",
    )

    def __init__(
        self,
        journal: Journal,
        claim: Claim[PreparedT],
        messages: Sequence[delivery_pb2.ClaimedMessage],
        upload_seconds_max: float,
    ) -> None:
        self._journal = journal
        self._campaign_id = claim.campaign_id
        self._index = claim.instance_index
        self._deadline = claim.deadline_seconds + upload_seconds_max
        self._is_over = claim.is_over
        self._attempts = [(message.number, message.attempt) for message in messages]
        self.begun = False

    def __call__(self) -> None:
        if self._is_over() or time.monotonic() >= self._deadline:
            raise WindowOver
        self.begun = True  # before the write, which may have failed in its end only
        self._journal.begun(self._index, self._campaign_id, self._attempts)
        reached("request-begun")

    def clear(self) -> None:
        """The request created nothing."""
        if not self.begun:
            return
        self.begun = False
        try:
            self._journal.not_created(self._index, self._campaign_id, self._attempts)
        except OSError as error:
            # still true; only after a kill would the attempt be taken for unknown
            _log.error("journal_write_failed", error=error.strerror)


class Lane(Generic[PreparedT]):
    """One organisation's share: its limit, what waits, what is under way."""

    def __init__(self, pacing: AdaptiveConcurrency, messages_per_request_max: int) -> None:
        self.pacing = pacing
        self.outage = OutageGuard()
        self.ready: deque[_Parcel[PreparedT]] = deque()
        self.sending = 0
        #: Parcels that wait for their next try, and the timers of that; they hold no slot.
        self.paused: dict[_Parcel[PreparedT], asyncio.TimerHandle] = {}
        #: Jobs that claim for it; they take turns.
        self.jobs = 0
        self.claiming = asyncio.Lock()
        self._per_request = messages_per_request_max
        self._room_made: asyncio.Event | None = None
        self._blocked_until = float("-inf")

    @property
    def has_next(self) -> bool:
        """Whether a slot may take a parcel."""
        limit = 1 if self.outage.is_out else self.pacing.limit
        return bool(self.ready) and self.sending < limit and not self.blocked_seconds

    def next(self) -> _Parcel[PreparedT]:
        """Take the next parcel. While the provider is out, one message of it is enough for a try."""
        parcel = self.ready.popleft()
        if self.outage.is_out and len(parcel.messages) > 1:
            self.ready.appendleft(_Parcel(parcel.claim, parcel.messages[1:]))
            parcel = _Parcel(parcel.claim, parcel.messages[:1])
        return parcel

    @property
    def blocked_seconds(self) -> float:
        """How long the provider takes nothing of the account; 0: it does."""
        return max(0.0, self._blocked_until - time.monotonic())

    def block(self, seconds: float) -> float:
        """The provider takes nothing for so long. Returns when that ends, on `time.monotonic`."""
        self._blocked_until = max(self._blocked_until, time.monotonic() + seconds)
        self._tell_room()
        return self._blocked_until

    def _parcels_missing(self) -> int:
        ready_max = 2 * self.pacing.limit + READY_MESSAGES_MORE // self._per_request
        return ready_max - len(self.ready) - len(self.paused)

    def _has_room(self) -> bool:
        return self._parcels_missing() >= self.pacing.limit

    async def room(self) -> int:
        """Wait until a claim is worth asking for; how many messages it should be for. 0: the lane
        is blocked.

        The next claim is asked for while the one before is being sent, so about two rounds of
        requests lie ready; no more, because a send window is running for them.
        """
        while not self.blocked_seconds:
            if self._has_room():
                return self._parcels_missing() * self._per_request
            self._room_made = asyncio.Event()
            await self._room_made.wait()
        return 0

    def taken(self) -> None:
        """A parcel left the queue."""
        if self._has_room():
            self._tell_room()

    def _tell_room(self) -> None:
        if self._room_made is not None:
            self._room_made.set()
            self._room_made = None


class Slots(Generic[PreparedT]):
    """All requests of this process. `slots_max`: requests at once, over all organisations.

    `upload_seconds_max`: a request that starts within its window may take so long until it begins.
    Where it does not, others that wait meanwhile would be uploaded only to be found late.
    """

    def __init__(
        self,
        provider: Provider[PreparedT],
        journal: Journal,
        *,
        slots_max: int,
        concurrency_start: int,
        upload_seconds_max: float = 0.0,
    ) -> None:
        self._upload_seconds_max = upload_seconds_max
        self._provider = provider
        self._journal = journal
        self._slots_max = slots_max
        self._concurrency_start = concurrency_start
        self._per_request = provider.messages_per_request_max
        self._lanes: dict[UUID, Lane[PreparedT]] = {}
        self._order: deque[Lane[PreparedT]] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._draining = False

    def lane(self, organisation_id: UUID) -> Lane[PreparedT]:
        """The organisation's lane."""
        lane = self._lanes.get(organisation_id)
        if lane is None:
            self._forget_idle_lanes()
            pacing = AdaptiveConcurrency(start=self._concurrency_start, limit_max=self._slots_max)
            lane = self._lanes[organisation_id] = Lane(pacing, self._per_request)
            self._order.append(lane)
        return lane

    def _forget_idle_lanes(self) -> None:
        if len(self._lanes) < LANES_MAX:
            return
        for organisation_id, lane in [*self._lanes.items()]:
            if not (lane.ready or lane.paused or lane.sending or lane.jobs):
                del self._lanes[organisation_id]
                self._order.remove(lane)

    def submit(
        self,
        lane: Lane[PreparedT],
        claim: Claim[PreparedT],
        messages: Sequence[delivery_pb2.ClaimedMessage],
    ) -> None:
        """Queue a claim's messages."""
        size = self._per_request
        parcels = [
            _Parcel(claim, messages[start : start + size])
            for start in range(0, len(messages), size)
        ]
        lane.ready.extend(parcels)
        self._hand_back_late(lane)
        self._wake(len(parcels))

    def drain(self) -> None:
        """Hand back what has not begun; requests under way go on to their end."""
        self._draining = True
        for lane in self._order:
            self._hand_back_late(lane)

    def hand_back_over(self) -> None:
        """Hand back at once what has not begun of claims that are over; a run has ended."""
        for lane in self._order:
            for _ in range(len(lane.ready)):
                parcel = lane.ready.popleft()
                if parcel.claim.is_over():
                    _hand_back(parcel)
                else:
                    lane.ready.append(parcel)
            for parcel in [paused for paused in lane.paused if paused.claim.is_over()]:
                lane.paused.pop(parcel).cancel()
                _hand_back(parcel)
            lane.taken()

    def _hand_back_late(self, lane: Lane[PreparedT]) -> None:
        """Of what lies ready hand back what can't begin in time any more."""
        blocked_seconds = lane.blocked_seconds
        if not (self._draining or blocked_seconds):
            return
        begins = float("inf") if self._draining else time.monotonic() + blocked_seconds
        for _ in range(len(lane.ready)):
            parcel = lane.ready.popleft()
            if parcel.claim.deadline_seconds > begins:
                lane.ready.append(parcel)
            else:
                _hand_back(parcel)
        lane.taken()

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._slots_max):
                tasks.create_task(self._slot())

    def _wake(self, count: int) -> None:
        while count and self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                count -= 1

    def _next_lane(self) -> Lane[PreparedT] | None:
        for _ in range(len(self._order)):
            lane = self._order[0]
            self._order.rotate(-1)
            if lane.has_next:
                return lane
        return None

    async def _slot(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            lane = self._next_lane()
            if lane is None:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
                continue
            await self._send_next(lane)

    async def _send_next(self, lane: Lane[PreparedT]) -> None:
        """Send the lane's next parcel. Once it is sent nothing here may name it any more: an idle slot would keep
        its recipients, and its campaign's attachments.
        """
        parcel = lane.next()
        lane.sending += 1
        lane.taken()
        try:
            await self._send(lane, parcel)
        finally:
            lane.sending -= 1
            if lane.pacing.limit > lane.sending + 1:
                self._wake(1)  # the limit has grown: one more may work beside this one

    async def _send(self, lane: Lane[PreparedT], parcel: _Parcel[PreparedT]) -> None:
        claim = parcel.claim
        begun_seconds = time.monotonic()
        if self._draining or claim.is_over() or begun_seconds >= claim.deadline_seconds:
            _hand_back(parcel)
            return
        begin = _Begin(self._journal, claim, parcel.messages, self._upload_seconds_max)
        at_limit = lane.sending >= lane.pacing.limit
        reached("request-before-begin")
        answer = await self._ask(claim, parcel, begin)
        reached("request-answered")
        if begin.begun:
            self._judge(lane, answer, begun_seconds)
        if type(answer) is Answered:
            lane.pacing.on_answer(at_limit=at_limit)
            claim.settle(answer.outcomes)
            return
        begin.clear()
        if type(answer) is AccountRefused:
            claim.refuse(answer)
            _hand_back(parcel)
            return
        if type(answer) is Divided:
            self._divide(lane, parcel, answer)
            return
        blocked_seconds = 0.0
        if type(answer) is Throttled:
            if answer.retry_after_seconds is None:
                lane.pacing.on_throttled(
                    begun_seconds=begun_seconds,
                    now_seconds=time.monotonic(),
                    concurrent_requests=answer.concurrent_requests,
                )
            else:
                blocked_seconds = self._block(lane, answer.retry_after_seconds)
        elif isinstance(answer, NotSent):
            self._slow_down(lane, answer, begun_seconds)
        self._try_later(lane, parcel, blocked_seconds)

    def _judge(self, lane: Lane[PreparedT], answer: Answer, begun_seconds: float) -> None:
        """Let the lane rest when the provider seems to be out."""
        outcomes = answer.outcomes if type(answer) is Answered else ()
        unknown = sum(outcome.outcome is Outcome.UNKNOWN for outcome in outcomes)
        if not unknown:
            lane.outage.on_known()
            return
        now_seconds = time.monotonic()
        rest_seconds = lane.outage.on_unknown(
            unknown, begun_seconds=begun_seconds, now_seconds=now_seconds
        )
        if rest_seconds:
            _log.warning("provider_out", rest_seconds=rest_seconds)
            self._rest(lane, rest_seconds)

    def _slow_down(self, lane: Lane[PreparedT], answer: NotSent, begun_seconds: float) -> None:
        """Uploads that take long and come to nothing take each other's line: fewer at once."""
        now_seconds = time.monotonic()
        if now_seconds - begun_seconds > self._upload_seconds_max / 2 > 0:
            _log.warning("upload_too_slow", cause=answer.cause, requests=lane.sending)
            lane.pacing.on_throttled(
                begun_seconds=begun_seconds, now_seconds=now_seconds, concurrent_requests=None
            )

    def _divide(self, lane: Lane[PreparedT], parcel: _Parcel[PreparedT], divided: Divided) -> None:
        """Settle what is known, and put the rest to the front of the lane."""
        if not _is_whole(parcel.messages, divided):
            # it would be sent twice, or never be settled
            _log.error("provider_adapter_failed", error="Divided", begun=False)
            _hand_back(parcel)
            return
        _log.info(
            "request_divided",
            campaign_id=str(UUID(bytes=parcel.claim.campaign_id)),
            messages=len(parcel.messages),
            outcomes=len(divided.outcomes),
            parcels=len(divided.parcels),
        )
        if divided.outcomes:
            parcel.claim.settle(divided.outcomes)
        parts = [_Parcel(parcel.claim, messages) for messages in divided.parcels]
        lane.ready.extendleft(reversed(parts))
        self._hand_back_late(lane)
        self._wake(len(parts))

    def _block(self, lane: Lane[PreparedT], seconds: float) -> float:
        """Let the lane rest. Returns for how long it does."""
        seconds = min(max(seconds, RETRY_SECONDS_MIN), RETRY_AFTER_SECONDS_MAX)
        if not lane.blocked_seconds:
            _log.warning("provider_throttled", retry_after_seconds=round(seconds, 1))
        return self._rest(lane, seconds)

    def _rest(self, lane: Lane[PreparedT], seconds: float) -> float:
        ends = lane.block(seconds)
        self._hand_back_late(lane)
        self._wake_when_unblocked(lane)
        return max(0.0, ends - time.monotonic())

    def _wake_when_unblocked(self, lane: Lane[PreparedT]) -> None:
        blocked_seconds = lane.blocked_seconds
        if blocked_seconds:  # a timer may be early, too
            asyncio.get_running_loop().call_later(blocked_seconds, self._wake_when_unblocked, lane)
        else:
            self._wake(self._slots_max)

    def _try_later(
        self, lane: Lane[PreparedT], parcel: _Parcel[PreparedT], blocked_seconds: float
    ) -> None:
        """Try again after a pause, without keeping a slot; hand back what its window is too short for."""
        pause_seconds = max(blocked_seconds, parcel.pause_seconds * random.uniform(0.9, 1.1))
        begins = time.monotonic() + pause_seconds
        if parcel.claim.is_over() or begins >= parcel.claim.deadline_seconds:
            _hand_back(parcel)
            return
        parcel.pause_seconds = min(RETRY_SECONDS_MAX, parcel.pause_seconds * 2)
        loop = asyncio.get_running_loop()
        lane.paused[parcel] = loop.call_later(pause_seconds, self._try_now, lane, parcel)

    def _try_now(self, lane: Lane[PreparedT], parcel: _Parcel[PreparedT]) -> None:
        del lane.paused[parcel]
        lane.ready.appendleft(parcel)
        self._hand_back_late(lane)
        self._wake(1)

    async def _ask(
        self, claim: Claim[PreparedT], parcel: _Parcel[PreparedT], begin: _Begin
    ) -> Answer:
        try:
            return await self._provider.send(claim.prepared, parcel.messages, begin)
        except Exception as error:  # noqa: BLE001 - a fault of the adapter; the claim must not hang
            # no traceback: its frames hold recipients
            _log.error("provider_adapter_failed", error=type(error).__name__, begun=begin.begun)
            if not begin.begun:
                return NotSent(type(error).__name__)
            return Answered(
                [
                    AttemptOutcome(message.number, message.attempt, Outcome.UNKNOWN)
                    for message in parcel.messages
                ]
            )


def _is_whole(messages: Sequence[delivery_pb2.ClaimedMessage], divided: Divided) -> bool:
    """Whether each message has its outcome, or is in one of the parcels, all of them smaller."""
    numbers = [outcome.number for outcome in divided.outcomes]
    numbers += [message.number for parcel in divided.parcels for message in parcel]
    return sorted(numbers) == sorted(message.number for message in messages) and all(
        0 < len(parcel) < len(messages) for parcel in divided.parcels
    )


def _hand_back(parcel: _Parcel[PreparedT]) -> None:
    parcel.claim.settle(
        [
            AttemptOutcome(message.number, message.attempt, Outcome.HANDED_BACK)
            for message in parcel.messages
        ]
    )

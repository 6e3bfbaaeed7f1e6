"""The event webhook: events become due, are gathered into batches, signed, posted and retried."""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from services.sandbox.due import DueQueue
from services.sandbox.sendgrid.events import event_json, event_time, refusal
from services.sandbox.sendgrid.fates import (
    COMPLAINT,
    FINAL,
    LATE_BOUNCE,
    Outcome,
    event_of,
    steps_of,
)
from services.sandbox.sendgrid.knobs import EmailKnobs
from services.sandbox.sendgrid.ledger import EmailLedger
from services.sandbox.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookKey
from services.sandbox.webhooks import WebhookClient, WebhookFailed

RETRIES_MAX = 10
CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 10.0

_TICK_SECONDS = 0.01
_DUE_AT_A_TIME = 2_000
_POSTS_WAITING_MAX = 64
_POSTS_RETRIED_MAX = 512
_TWICE = 16


@dataclass(slots=True)
class _Batch:
    """Events on their way; `items`: numbers and masks of steps, as the ledger's `pending` has it."""

    body: bytes
    events: int
    items: list[tuple[int, int]]
    url: str
    generation: int
    retries: int = 0


@dataclass(slots=True)
class _Gathering:
    events: list[bytes] = field(default_factory=list)
    items: list[tuple[int, int]] = field(default_factory=list)
    size_bytes: int = 0
    began: float = 0.0


class EventWebhook:
    """Posts the events of the ledger's emails, also of those that a restart finds unfinished.

    Without a URL the events count as done when they are due.
    """

    def __init__(
        self,
        ledger: EmailLedger,
        key: WebhookKey,
        client: WebhookClient,
        knobs: Callable[[], EmailKnobs],
        initial_url: str | None,
        connections_max: int,
    ) -> None:
        self._ledger = ledger
        self._key = key
        self._client = client
        self._knobs = knobs
        self._initial_url = initial_url
        self._connections_max = connections_max
        self._due = DueQueue()
        self._posts: asyncio.Queue[_Batch] = asyncio.Queue(_POSTS_WAITING_MAX)
        self._retries: list[tuple[float, int, _Batch]] = []
        self._order = count()
        self._gathering = _Gathering()
        self._generation = 0
        self.counts: Counter[str] = Counter()

    @property
    def url(self) -> str | None:
        """Where events go: what was set while running, unless the settings have changed since."""
        initial, current = self._ledger.event_url
        return current if current and initial == self._initial_url else self._initial_url

    def set_url(self, url: str | None) -> None:
        """Post the events that become due from now on there."""
        self._ledger.set_event_url(self._initial_url, url)

    def schedule(self, numbers: range) -> None:
        """Post the events of these emails when they are due."""
        for number in numbers:
            pending = self._ledger.pending(number)
            if not pending:
                continue
            # After a restart the second post may be all that is left of an event.
            steps = steps_of(pending | pending >> _TWICE)
            times = [event_time(self._ledger, number, step) for step in steps]
            if self._ledger.reordered(number):
                steps.reverse()
                times = [max(times)] * len(times)
            for at, step in zip(times, steps, strict=True):
                if pending >> step & 1:
                    self._due.add(at, number << 5 | step)
            for at, step in zip(times, steps, strict=True):
                if pending >> (_TWICE + step) & 1:
                    self._due.add(at, number << 5 | _TWICE | step)

    def resume(self) -> None:
        """Go on after a restart: what is overdue is posted at once, perhaps a second time."""
        self.schedule(range(len(self._ledger)))

    def forget(self) -> None:
        """Post none of the events that are still due: the ledger was reset."""
        self._generation += 1
        self._due.clear()
        self._gathering = _Gathering()
        self._retries.clear()
        while not self._posts.empty():
            self._posts.get_nowait()
        self.counts.clear()

    async def run(self) -> None:
        """Post events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gather())
            for _ in range(self._connections_max):
                tasks.create_task(self._work())

    # Gathering

    async def _gather(self) -> None:
        while True:
            now = time.time()
            # While the receiver takes nothing, what becomes due waits in eight bytes each.
            due = self._due.take(now, _DUE_AT_A_TIME if self._has_room else 0)
            generation = self._generation
            for item in due:
                if generation != self._generation:
                    break  # a reset came while a post waited for its turn: the numbers are gone
                self._take(item, now)
                if self._is_full():
                    await self._flush()
                    await asyncio.sleep(0)
            gathering = self._gathering
            if gathering.events and now - gathering.began >= self._wait_seconds:
                await self._flush()
            while self._retries and self._retries[0][0] <= now:
                await self._posts.put(heapq.heappop(self._retries)[2])
            await asyncio.sleep(0 if due else _TICK_SECONDS)

    @property
    def _has_room(self) -> bool:
        return len(self._retries) < _POSTS_RETRIED_MAX

    @property
    def _wait_seconds(self) -> float:
        return self._knobs().event_batch_wait_ms / 1000

    def _is_full(self) -> bool:
        knobs, gathering = self._knobs(), self._gathering
        return (
            len(gathering.events) >= knobs.event_batch_max
            or gathering.size_bytes >= knobs.event_batch_bytes_max
        )

    def _take(self, item: int, now: float) -> None:
        number, twice, step = item >> 5, item & _TWICE, item & 0xF
        if not twice:
            self._suppress(number, step)
        event = event_json(self._ledger, number, step)
        gathering = self._gathering
        if not gathering.events:
            gathering.began = now
        gathering.events.append(event)
        gathering.items.append((number, 1 << (step + twice)))
        gathering.size_bytes += len(event) + 3

    def _suppress(self, number: int, step: int) -> None:
        # What SendGrid itself learns from what it tells.
        if step < FINAL:
            return
        ledger, outcome = self._ledger, self._ledger.outcome(number)
        email = ledger.email(number)
        if step == COMPLAINT:
            name = {"spamreport": "spam_reports", "unsubscribe": "unsubscribes"}.get(
                event_of(outcome, ledger.complaint(number), step)
            )
            if name:
                ledger.suppressions.add(name, email)
        elif step == LATE_BOUNCE or (step == FINAL and outcome is Outcome.BOUNCED):
            ledger.suppressions.add("bounces", email, *_said(ledger, number))
        elif step == FINAL and outcome in (Outcome.BLOCKED, Outcome.DEFERRED_FOR_EVER):
            ledger.suppressions.add("blocks", email, *_said(ledger, number))

    async def _flush(self) -> None:
        gathering, self._gathering = self._gathering, _Gathering()
        url = self.url
        if url is None:
            self._ledger.events_done(gathering.items)
            self.counts["not_posted"] += len(gathering.events)
            return
        body = b"[" + b",\r\n".join(gathering.events) + b"]\r\n"
        await self._posts.put(
            _Batch(body, len(gathering.events), gathering.items, url, self._generation)
        )

    # Posting

    async def _work(self) -> None:
        while True:
            batch = await self._posts.get()
            if batch.generation == self._generation:
                await self._post(batch)

    async def _post(self, batch: _Batch) -> None:
        status = await self._answer(batch)
        if batch.generation != self._generation:
            return
        self.counts["posts"] += 1
        if 200 <= status < 300:
            self.counts["events_posted"] += batch.events
        elif batch.retries < RETRIES_MAX:
            # Each wait is twice the one before; all together take the time of the knob.
            wait = self._knobs().event_retry_seconds * 2**batch.retries / (2**RETRIES_MAX - 1)
            batch.retries += 1
            self.counts["posts_retried"] += 1
            heapq.heappush(self._retries, (time.time() + wait, next(self._order), batch))
            return
        else:
            self.counts["events_given_up"] += batch.events
        self._ledger.events_done(batch.items)

    async def _answer(self, batch: _Batch) -> int:
        timestamp = str(int(time.time()))
        headers = (
            f"User-Agent: SendGrid Event API\r\nAccept: */*\r\n"
            f"{SIGNATURE_HEADER}: {self._key.sign(timestamp, batch.body)}\r\n"
            f"{TIMESTAMP_HEADER}: {timestamp}\r\n"
        )
        try:
            return await self._client.post(
                batch.url,
                headers,
                batch.body,
                connect_timeout_seconds=CONNECT_SECONDS_MAX,
                read_timeout_seconds=ANSWER_SECONDS_MAX,
                content_type="application/json",
            )
        except WebhookFailed:
            return 0


def _said(ledger: EmailLedger, number: int) -> tuple[str, str]:
    said = refusal(ledger, number)
    return said.reason, said.status or ""

"""Reports: batched, numbered on each stream, acknowledged cumulatively after commit, sent again
until they are.

Batches have ids of their own, which grow by one for the life of the process; the numbers on a
stream start anew with each stream. An acknowledgement covers every batch before it, so waiting for
a batch is waiting for a number.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog

from outreach.crash_points import reached
from outreach.internal.v1 import delivery_pb2
from outreach.sending.journal import Journal
from outreach.sending.outcomes import AttemptOutcome, merged
from outreach.vocabulary import Channel

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Batch:
    batch_id: int
    content: delivery_pb2.ReportBatch
    size: int


class _Open:
    """The batch that is being filled. One outcome an attempt, so a commit changes a row once."""

    def __init__(self, batch_id: int, channel: Channel) -> None:
        self.batch_id = batch_id
        self._channel = channel
        self.outcomes: dict[str, dict[tuple[int, int], AttemptOutcome]] = {}
        #: campaign ids and attempts that the journal has to keep
        self.journaled: dict[str, set[tuple[int, int]]] = {}
        self.rest = delivery_pb2.ReportBatch()
        self.size = 0

    def add(self, campaign_id: str, outcome: AttemptOutcome, *, journaled: bool) -> None:
        outcomes = self.outcomes.get(campaign_id)
        if outcomes is None:
            outcomes = self.outcomes[campaign_id] = {}
        key = (outcome.number, outcome.attempt)
        known = outcomes.get(key)
        if known is None:
            outcomes[key] = outcome
            self.size += 1
        else:
            outcomes[key] = merged(known, outcome, self._channel)
        if journaled:
            self.journaled.setdefault(campaign_id, set()).add(key)

    def batch(self) -> delivery_pb2.ReportBatch:
        batch = self.rest
        for campaign_id, outcomes in self.outcomes.items():
            batch.campaigns.append(_campaign_reports(campaign_id, outcomes.values()))
        return batch

    def to_journal(self) -> delivery_pb2.ReportBatch:
        """Only what nobody else keeps: the webhook inbox has its own reports and opt-outs."""
        return delivery_pb2.ReportBatch(
            campaigns=[
                _campaign_reports(campaign_id, (self.outcomes[campaign_id][key] for key in keys))
                for campaign_id, keys in self.journaled.items()
            ],
            campaign_failures=self.rest.campaign_failures,
        )


def _campaign_reports(
    campaign_id: str, outcomes: Iterable[AttemptOutcome]
) -> delivery_pb2.CampaignReports:
    return delivery_pb2.CampaignReports(
        campaign_id=campaign_id, reports=[outcome.to_report() for outcome in outcomes]
    )


class Reporter:
    """Collects outcomes of one channel and gets them committed.

    `reports_max`: of one batch. `linger_seconds`: how long an outcome may wait for others.
    `unacknowledged_max`: reports; above it `room` waits, so no more is claimed or forwarded.
    """

    def __init__(
        self,
        journal: Journal,
        channel: Channel,
        *,
        reports_max: int = 500,
        linger_seconds: float = 0.01,
        unacknowledged_max: int = 10_000,
    ) -> None:
        self._journal = journal
        self._channel = channel
        self._reports_max = reports_max
        self._linger_seconds = linger_seconds
        self._unacknowledged_max = unacknowledged_max
        self._open = _Open(1, channel)
        self._sealed: deque[_Batch] = deque()
        self._acked = 0
        self._unacknowledged = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._filled = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def unacknowledged(self) -> int:
        """Reports that are not known to be committed."""
        return self._unacknowledged + self._open.size

    def submit(
        self, campaign_id: str, outcomes: Iterable[AttemptOutcome], *, journaled: bool = True
    ) -> int:
        """Report outcomes. Returns the id of the batch they are in (for `acked_through`).

        `journaled`: they survive this process; not needed for what is kept elsewhere.
        """
        batch_id = self._open.batch_id
        for outcome in outcomes:
            batch_id = self._open.batch_id
            self._open.add(campaign_id, outcome, journaled=journaled)
            if self._open.size >= self._reports_max:
                self.seal()
        self._filled.set()
        return batch_id

    def submit_opt_out(self, opt_out: delivery_pb2.OptOut) -> int:
        """Report that a recipient opted out or in."""
        return self._submit_rest(lambda rest: rest.opt_outs.append(opt_out))

    def submit_campaign_failure(self, failure: delivery_pb2.CampaignFailureReport) -> int:
        """Report that the provider refuses a whole campaign."""
        return self._submit_rest(lambda rest: rest.campaign_failures.append(failure))

    def submit_ended_instance(self, instance: delivery_pb2.EndedInstance) -> int:
        """Report that an instance claims and sends nothing more, in a batch after all others."""
        self.seal()
        batch_id = self._submit_rest(lambda rest: rest.ended_instances.append(instance))
        self.seal()
        return batch_id

    def _submit_rest(self, add: Callable[[delivery_pb2.ReportBatch], None]) -> int:
        batch_id = self._open.batch_id
        add(self._open.rest)
        self._open.size += 1
        if self._open.size >= self._reports_max:
            self.seal()
        self._filled.set()
        return batch_id

    async def acked_through(self, batch_id: int) -> None:
        """Wait until this batch, and so all before it, are committed."""
        if batch_id <= self._acked:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((batch_id, done))
        await done

    async def flushed(self) -> None:
        """Wait until everything submitted so far is committed."""
        last = self._open.batch_id if self._open.size else self._open.batch_id - 1
        await self.acked_through(last)

    async def room(self) -> None:
        """Wait while too many reports are unacknowledged."""
        await self._room.wait()

    async def run(self) -> None:
        """Seal what has lingered long enough, for ever, with or without a stream."""
        while True:
            await self._filled.wait()
            await asyncio.sleep(self._linger_seconds)
            self._filled.clear()
            self.seal()

    def seal(self) -> None:
        """Close the open batch: it is journaled and may be sent."""
        filled = self._open
        if not filled.size:
            return
        to_journal = filled.to_journal()
        if to_journal.campaigns or to_journal.campaign_failures:
            try:
                self._journal.reports(filled.batch_id, to_journal)
            except OSError as error:
                # the report itself is as true as before; only a kill before its commit loses it
                _log.error("journal_write_failed", error=error.strerror)
        self._open = _Open(filled.batch_id + 1, self._channel)
        self._sealed.append(_Batch(filled.batch_id, filled.batch(), filled.size))
        self._unacknowledged += filled.size
        if self._unacknowledged > self._unacknowledged_max:
            self._room.clear()
        self._changed.set()

    async def feed(
        self,
        send: Callable[[delivery_pb2.DeliverRequest], Awaitable[None]],
        sent: "SentBatches",
        reports_max: int,
    ) -> None:
        """Send all that is unacknowledged, then what comes, on one stream. Ends by cancellation.

        `reports_max` is the peer's limit for a batch, from its Welcome.
        """
        self._reports_max = min(self._reports_max, reports_max)
        last = self._acked
        while True:
            self._changed.clear()
            for batch in [batch for batch in self._sealed if batch.batch_id > last]:
                sequence = sent.add(batch.batch_id)
                batch.content.sequence = sequence
                reached("report-before-send")
                await send(delivery_pb2.DeliverRequest(reports=batch.content))
                last = batch.batch_id
            if not (self._sealed and self._sealed[-1].batch_id > last):
                await self._changed.wait()

    def on_ack(self, batch_id: int) -> None:
        """All batches up to this one are committed."""
        while self._sealed and self._sealed[0].batch_id <= batch_id:
            self._unacknowledged -= self._sealed.popleft().size
        self._acked = max(self._acked, batch_id)
        if self._unacknowledged <= self._unacknowledged_max:
            self._room.set()
        try:
            self._journal.acked(batch_id)
        except OSError as error:
            _log.error("journal_write_failed", error=error.strerror)
        for _ in range(len(self._waiters)):
            wanted, done = self._waiters.popleft()
            if wanted > self._acked:
                self._waiters.append((wanted, done))
            elif not done.done():
                done.set_result(None)


class SentBatches:
    """Which batch had which number on one stream."""

    def __init__(self) -> None:
        self._next = 1
        self._sent: deque[tuple[int, int]] = deque()

    def add(self, batch_id: int) -> int:
        """The number that the batch gets on this stream."""
        sequence = self._next
        self._next += 1
        self._sent.append((sequence, batch_id))
        return sequence

    def acked(self, sequence: int) -> int:
        """The latest batch that an acknowledgement of `sequence` covers; 0: none that is open."""
        batch_id = 0
        while self._sent and self._sent[0][0] <= sequence:
            batch_id = self._sent.popleft()[1]
        return batch_id


def campaign_failure(
    campaign_id: str, run: int, failure_reason: int, provider_code: str
) -> delivery_pb2.CampaignFailureReport:
    """The report of a critical error."""
    return delivery_pb2.CampaignFailureReport(
        campaign_id=campaign_id,
        run=run,
        failure_reason=failure_reason,  # type: ignore[arg-type]  # same numbers, held by a test
        provider_code=provider_code,
    )

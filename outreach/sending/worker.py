"""Jobs: pulled from JetStream, claimed range by range, sent, and acknowledged when all is committed.

A job is a pointer. Redelivered, it finds nothing left to claim; lost, it is dispatched again.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Generic

import grpc
import grpc.aio
import structlog
from nats.aio.msg import Msg

from outreach.internal.v1 import delivery_pb2
from outreach.jetstream.connection import NATS_FAULTS
from outreach.jetstream.consumer import PullConsumer
from outreach.jetstream.jobs import Job
from outreach.jetstream.topology import JOB_ACK_WAIT_SECONDS
from outreach.sending.contents import (
    NO_ACCOUNT_CODES,
    Accounts,
    AttachmentFault,
    PreparedCampaigns,
)
from outreach.sending.look_ups import LookUps
from outreach.sending.outcomes import AccountRefused, AttemptOutcome
from outreach.sending.provider import CampaignNotSendable, PreparedT
from outreach.sending.reporter import Reporter, campaign_failure
from outreach.sending.slots import Claim, Lane, Slots
from outreach.sending.stops import RUNS_MAX, OverRuns, RunKey
from outreach.sending.stream import Claimed, DeliveryStream, Instance, StreamLost
from outreach.vocabulary import FailureReason, Outcome

#: Jobs that claim at once; more would only be kept from other senders.
JOBS_CLAIMING_MAX: Final = 4
#: Of one organisation; one turn is always left for other organisations' jobs, and for look-ups.
LANE_JOBS_CLAIMING_MAX: Final = JOBS_CLAIMING_MAX - 1
#: Another one of an organisation that has all its turns is given back for so long.
TURN_RETRY_SECONDS: Final = 0.25
#: Jobs whose messages are under way or whose reports are not committed yet.
JOBS_OPEN_MAX: Final = 64
#: Campaigns whose attempts are looked up at once.
LOOK_UPS_OPEN_MAX: Final = 8
FETCH_WAIT_SECONDS: Final = 2.0
#: A job that can't be worked on now is given back for so long.
JOB_RETRY_SECONDS: Final = 1.0
CLAIM_RETRY_SECONDS: Final = 0.5
#: So many failed claims in a row: perhaps it is this stream that is refused.
CLAIM_FAILURES_MAX: Final = 10
#: The refusal of an account that was asked for longer ago may be that of a key that was replaced since.
ACCOUNT_YOUNG_SECONDS: Final = 5.0
CLAIMED_MAX: Final = 1_000
#: An attachment that does not fit its content so often, each time fetched anew, never will.
ATTACHMENT_FAULTS_MAX: Final = 10

_log = structlog.get_logger(__name__)


class _JobRun:
    """What of one job is still open."""

    def __init__(self, job: Job, message: Msg, reporter: Reporter) -> None:
        self.job = job
        self.message = message
        self.campaign_id = str(job.campaign_id)
        self.key: RunKey = (job.campaign_id, job.run)
        self.last_batch = 0
        self.retry_seconds = JOB_RETRY_SECONDS
        self._reporter = reporter
        self._open = 0
        self._settled = asyncio.Event()
        self._settled.set()

    def claimed(self, count: int) -> None:
        self._open += count
        if count:
            self._settled.clear()

    def report(self, instance: Instance, outcomes: Sequence[AttemptOutcome]) -> None:
        """Every claimed message comes through here exactly once."""
        self.last_batch = self._reporter.submit(self.campaign_id, outcomes)
        count = len(outcomes)
        instance.reported(count)
        self._open -= count
        if not self._open:
            self._settled.set()

    async def committed(self) -> None:
        """Wait until every claimed message's report is committed."""
        await self._settled.wait()
        await self._reporter.acked_through(self.last_batch)


class Worker(Generic[PreparedT]):
    """Works on a channel's jobs until it is drained."""

    def __init__(
        self,
        *,
        consumer: PullConsumer,
        stream: DeliveryStream,
        reporter: Reporter,
        slots: Slots[PreparedT],
        campaigns: PreparedCampaigns[PreparedT],
        accounts: Accounts,
        look_ups: LookUps[PreparedT],
        over: OverRuns,
    ) -> None:
        self._consumer = consumer
        self._stream = stream
        self._reporter = reporter
        self._slots = slots
        self._campaigns = campaigns
        self._accounts = accounts
        self._look_ups = look_ups
        self._over = over
        over.on_over = slots.hand_back_over
        self._claiming = asyncio.Semaphore(JOBS_CLAIMING_MAX)
        self._open = asyncio.Semaphore(JOBS_OPEN_MAX)
        self._runs: set[_JobRun] = set()
        #: Runs whose refusal has been told.
        self._refused: set[RunKey] = set()
        self._looking_up: set[str] = set()
        #: How often an attachment did not fit its content.
        self._attachment_faults: dict[RunKey, int] = {}
        #: When the account was asked for anew, because it was refused.
        self._asked_again: dict[RunKey, float] = {}
        self._draining = asyncio.Event()
        self._drained = asyncio.Event()

    async def run(self) -> None:
        """Pull and work on jobs; returns when drained and every job is done or given back."""
        async with asyncio.TaskGroup() as tasks:
            heartbeat = tasks.create_task(self._heartbeat())
            async with asyncio.TaskGroup() as jobs:
                pulling = jobs.create_task(self._pull(jobs))
                await self._draining.wait()
                pulling.cancel()
            heartbeat.cancel()
        await self._consumer.close()
        self._drained.set()

    async def drain(self) -> None:
        """Claim nothing more, finish or hand back what is claimed, wait for the commits."""
        self._draining.set()
        self._slots.drain()
        self._look_ups.drain()
        await self._drained.wait()

    async def _pull(self, jobs: asyncio.TaskGroup) -> None:
        while not self._draining.is_set():
            await self._stream.connected()
            await self._open.acquire()
            await self._claiming.acquire()
            messages = await self._fetch()
            if not messages:
                self._claiming.release()
                self._open.release()
            for message in messages:
                jobs.create_task(self._work(message))

    async def _fetch(self) -> list[Msg]:
        """One job at a time: what a sender holds and does not work on, another could send."""
        return await self._consumer.fetch(1, wait_seconds=FETCH_WAIT_SECONDS)

    async def _heartbeat(self) -> None:
        """Keep the jobs under way ours."""
        while True:
            await asyncio.sleep(JOB_ACK_WAIT_SECONDS / 3)
            for run in [*self._runs]:
                with suppress(*NATS_FAULTS):  # a job given to another meanwhile does no harm
                    await run.message.in_progress()

    async def _work(self, message: Msg) -> None:
        try:
            job = Job.decode(message.data)
        except ValueError as error:
            _log.error("job_malformed", error=str(error))
            self._claiming.release()
            self._open.release()
            with suppress(*NATS_FAULTS):
                await message.term()
            return
        run = _JobRun(job, message, self._reporter)
        self._runs.add(run)
        claiming = True
        try:
            if run.job.kind == "look_up":
                self._claiming.release()
                claiming = False
                await self._look_up(run)
                is_done = True
            else:
                is_done = await self._claim_all(run)
                self._claiming.release()
                claiming = False
            await run.committed()
            await self._give_back(run, is_done=is_done)
        except Exception as error:  # noqa: BLE001 - one job must not end the sender
            _log.error("job_failed", error=type(error).__name__)
            await self._give_back(run, is_done=False)
        finally:
            if claiming:
                self._claiming.release()
            self._open.release()
            self._runs.discard(run)

    async def _look_up(self, run: _JobRun) -> None:
        """Look-ups may take long, and must not keep the turns of those who send. What is not looked
        up now stays due, and a job for it is published again.
        """
        if run.campaign_id in self._looking_up or len(self._looking_up) >= LOOK_UPS_OPEN_MAX:
            return
        self._looking_up.add(run.campaign_id)
        try:
            await self._look_ups.run(run.job.organisation_id, run.campaign_id)
        finally:
            self._looking_up.discard(run.campaign_id)

    async def _give_back(self, run: _JobRun, *, is_done: bool) -> None:
        with suppress(*NATS_FAULTS):  # not acknowledged: it comes again and finds nothing to claim
            if is_done:
                await run.message.ack()
            else:
                await run.message.nak(delay=run.retry_seconds)

    async def _claim_all(self, run: _JobRun) -> bool:
        """Claim the job's range and queue it for sending. False: the job has to come again."""
        lane = self._slots.lane(run.job.organisation_id)
        if lane.jobs >= LANE_JOBS_CLAIMING_MAX:
            run.retry_seconds = TURN_RETRY_SECONDS
            return False
        lane.jobs += 1
        failures = 0
        try:
            while not self._draining.is_set():
                async with lane.claiming:
                    state = await self._claim(run, lane)
                if state is None:
                    # nobody can send for it now; meanwhile other organisations' jobs get their turn
                    run.retry_seconds = max(JOB_RETRY_SECONDS, lane.blocked_seconds)
                    return False
                if state in (
                    delivery_pb2.CLAIM_STATE_EXHAUSTED,
                    delivery_pb2.CLAIM_STATE_NOT_RUNNING,
                ):
                    return True
                if state == delivery_pb2.CLAIM_STATE_OPEN:
                    failures = 0
                    continue
                failures += 1
                if failures >= CLAIM_FAILURES_MAX:
                    self._stream.renew()
                    return False
                await asyncio.sleep(CLAIM_RETRY_SECONDS)
        except StreamLost:
            _log.info("job_postponed", campaign_id=run.campaign_id, code="STREAM_LOST")
        except grpc.aio.AioRpcError as error:
            _log.warning("job_postponed", campaign_id=run.campaign_id, code=error.code().name)
        except AttachmentFault as error:
            _log.error("job_postponed", campaign_id=run.campaign_id, code=str(error))
        finally:
            lane.jobs -= 1
        return False

    async def _claim(self, run: _JobRun, lane: Lane[PreparedT]) -> int | None:
        """Claim once; the claim's state. None: the provider takes nothing of the account now."""
        job = run.job
        limit = min(await self._room(lane), job.last - job.first + 1, CLAIMED_MAX)
        if self._draining.is_set():
            return delivery_pb2.CLAIM_STATE_OPEN
        if not limit:
            return None
        claimed = await self._stream.claim(
            campaign_id=run.campaign_id, run=job.run, first=job.first, last=job.last, limit=limit
        )
        if claimed.result.state == delivery_pb2.CLAIM_STATE_NOT_RUNNING:
            # Stopped, failed, or another run by now: so is what of it lies ready here.
            self._over.add(run.key)
        messages = claimed.result.messages
        run.claimed(len(messages))
        if messages:
            await self._queue(run, lane, claimed)
        return claimed.result.state

    async def _room(self, lane: Lane[PreparedT]) -> int:
        await self._reporter.room()
        return await lane.room()

    async def _queue(self, run: _JobRun, lane: Lane[PreparedT], claimed: Claimed) -> None:
        job = run.job
        messages = claimed.result.messages
        try:
            prepared = await self._campaigns.get(
                job.organisation_id, run.campaign_id, claimed.result.content_hash
            )
        except CampaignNotSendable as error:
            self._fail_campaign(run, error.failure_reason, error.provider_code)
            self._hand_back(run, claimed)
            return
        except AttachmentFault as fault:
            self._note_fault(run, fault)
            self._hand_back(run, claimed)
            raise
        except Exception as error:
            if isinstance(error, grpc.aio.AioRpcError) and error.code() in NO_ACCOUNT_CODES:
                self._fail_campaign(run, FailureReason.ACCOUNT_PROBLEM, "")
            self._hand_back(run, claimed)
            raise
        self._attachment_faults.pop(run.key, None)
        fetched_seconds = self._accounts.fetched_seconds(job.organisation_id)
        claim = Claim(
            campaign_id=job.campaign_id.bytes,
            instance_index=claimed.instance.index,
            prepared=prepared,
            deadline_seconds=claimed.deadline_seconds,
            settle=lambda outcomes: run.report(claimed.instance, outcomes),
            refuse=lambda refusal: self._refuse(run, refusal, fetched_seconds),
            is_over=lambda: run.key in self._over,
        )
        if claim.is_over():  # while this claim was under way
            self._hand_back(run, claimed)
            return
        self._slots.submit(lane, claim, [*messages])

    def _note_fault(self, run: _JobRun, fault: AttachmentFault) -> None:
        """The job comes again and the attachment is fetched anew; but not for ever."""
        faults = self._attachment_faults.pop(run.key, 0) + 1
        if faults >= ATTACHMENT_FAULTS_MAX:
            self._fail_campaign(run, FailureReason.CONTENT_REJECTED, str(fault))
            return
        if len(self._attachment_faults) >= RUNS_MAX:
            self._attachment_faults.clear()
        self._attachment_faults[run.key] = faults

    def _hand_back(self, run: _JobRun, claimed: Claimed) -> None:
        run.report(
            claimed.instance,
            [
                AttemptOutcome(message.number, message.attempt, Outcome.HANDED_BACK)
                for message in claimed.result.messages
            ],
        )

    def _refuse(self, run: _JobRun, refusal: AccountRefused, fetched_seconds: float) -> None:
        """The campaign fails, unless the account may be another one by now: then it is handed back,
        and sent with that.
        """
        now_seconds = time.monotonic()
        is_young = now_seconds - fetched_seconds <= ACCOUNT_YOUNG_SECONDS
        if run.key not in self._asked_again and not is_young:
            if len(self._asked_again) >= RUNS_MAX:
                self._asked_again.clear()
            self._asked_again[run.key] = now_seconds
            self._accounts.forget(run.job.organisation_id)
        if fetched_seconds < self._asked_again.get(run.key, float("-inf")):
            return
        self._accounts.forget(run.job.organisation_id)
        self._fail_campaign(run, refusal.failure_reason, refusal.provider_code)

    def _fail_campaign(
        self, run: _JobRun, failure_reason: FailureReason, provider_code: str
    ) -> None:
        """The run can't go on; told once. Its messages that have not begun are handed back."""
        self._over.add(run.key)
        if run.key in self._refused:
            return
        if len(self._refused) >= RUNS_MAX:
            self._refused.clear()  # at worst a refusal is found out once more
        self._refused.add(run.key)
        failure = campaign_failure(run.campaign_id, run.job.run, int(failure_reason), provider_code)
        run.last_batch = self._reporter.submit_campaign_failure(failure)
        _log.warning(
            "campaign_refused",
            campaign_id=run.campaign_id,
            reason=failure_reason.name,
            provider_code=provider_code,
        )

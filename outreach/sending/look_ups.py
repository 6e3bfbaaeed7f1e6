"""Look-ups: asking the provider what became of attempts whose outcome is unknown."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic
from uuid import UUID

import grpc.aio
import structlog

from outreach.internal.v1 import delivery_pb2
from outreach.sending.contents import PreparedCampaigns
from outreach.sending.outcomes import AttemptOutcome
from outreach.sending.provider import CampaignNotSendable, PreparedT, Provider
from outreach.sending.reporter import Reporter
from outreach.sending.stream import DeliveryStream, StreamLost

#: Attempts asked for at a time.
ATTEMPTS_MAX: Final = 200
#: So often at a time: the rest is due for the next job.
ROUNDS_MAX: Final = 10
#: Look-ups at the provider at once; they share its concurrency with the sends.
CONCURRENCY_MAX: Final = 4
#: Between the tries of one look-up: a provider that has much to do says so, also to those who only ask.
PAUSES_SECONDS: Final = (0.2, 0.6)
#: So many look-ups in a row without an answer: the provider is not asked for the rest of the batch.
UNANSWERED_MAX: Final = 12

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Batch(Generic[PreparedT]):
    """Attempts that were leased together. `unanswered`: how many look-ups in a row had no answer."""

    prepared: PreparedT
    unanswered: int = 0


class LookUps(Generic[PreparedT]):
    """Works on look-up jobs. What could not be looked up is due again later."""

    def __init__(
        self,
        stream: DeliveryStream,
        reporter: Reporter,
        campaigns: PreparedCampaigns[PreparedT],
        provider: Provider[PreparedT],
    ) -> None:
        self._stream = stream
        self._reporter = reporter
        self._campaigns = campaigns
        self._provider = provider
        self._turn = asyncio.Semaphore(CONCURRENCY_MAX)
        self._draining = False

    def drain(self) -> None:
        """Ask for nothing more. What is not asked for stays due, for another sender."""
        self._draining = True

    async def run(self, organisation_id: UUID, campaign_id: str) -> None:
        """Look up what is due for a campaign now; returns when the answers are committed."""
        for _ in range(ROUNDS_MAX):
            try:
                due = await self._stream.look_up(campaign_id=campaign_id, limit=ATTEMPTS_MAX)
                if not due.attempts:
                    return
                prepared = await self._campaigns.get(
                    organisation_id, campaign_id, due.content_hash, for_sending=False
                )
            except (StreamLost, CampaignNotSendable) as error:
                _log.warning("look_up_failed", campaign_id=campaign_id, error=type(error).__name__)
                return
            except grpc.aio.AioRpcError as error:
                _log.warning("look_up_failed", campaign_id=campaign_id, error=error.code().name)
                return
            if await self._look_up_all(prepared, campaign_id, due.attempts) < len(due.attempts):
                return  # the provider has enough, or can't be reached

    async def _look_up_all(
        self,
        prepared: PreparedT,
        campaign_id: str,
        attempts: Sequence[delivery_pb2.UnknownAttempt],
    ) -> int:
        """Returns for how many of them there was an answer, once those are committed."""
        by_recipient: dict[str, list[delivery_pb2.UnknownAttempt]] = {}
        for attempt in attempts:
            by_recipient.setdefault(attempt.message.recipient, []).append(attempt)
        batch = _Batch(prepared)
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(self._look_up(batch, together))
                for together in by_recipient.values()
            ]
        outcomes = [outcome for task in asked for outcome in task.result()]
        # not journaled: lost with this process, they are asked for again
        through = self._reporter.submit(campaign_id, outcomes, journaled=False)
        await self._reporter.acked_through(through if outcomes else 0)
        _log.info("looked_up", campaign_id=campaign_id, due=len(attempts), answered=len(outcomes))
        return len(outcomes)

    async def _look_up(
        self, batch: _Batch[PreparedT], attempts: Sequence[delivery_pb2.UnknownAttempt]
    ) -> list[AttemptOutcome]:
        """Attempts for one recipient, one after the other: what is found for one is no other's."""
        outcomes: list[AttemptOutcome] = []
        async with self._turn:
            for attempt in attempts:
                if self._draining or batch.unanswered >= UNANSWERED_MAX:
                    break
                attempt.other_provider_message_ids.extend(
                    outcome.provider_message_id for outcome in outcomes
                )
                outcome = await self._ask(batch.prepared, attempt)
                if outcome is None:
                    batch.unanswered += 1
                else:
                    batch.unanswered = 0
                    outcomes.append(outcome)
        return outcomes

    async def _ask(
        self, prepared: PreparedT, attempt: delivery_pb2.UnknownAttempt
    ) -> AttemptOutcome | None:
        for pause_seconds in PAUSES_SECONDS:
            outcome = await self._provider.look_up(prepared, attempt)
            if outcome is not None or self._draining:
                return outcome
            await asyncio.sleep(pause_seconds)
        return await self._provider.look_up(prepared, attempt)

"""Reports: what senders and webhooks learned, applied in batches. Harmless when repeated: keyed by message and
attempt, guarded by the table of permitted edges.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

from outreach.crash_points import reached
from outreach.internal.v1 import delivery_pb2
from outreach.vocabulary import OUTCOME_RANK, Channel, FailureReason, MessageStatus, Outcome
from services.campaign.delivery.changes import (
    QUERIES,
    LockedCampaign,
    Wakeups,
    lock_campaign,
    moves_of,
    record_changes,
)
from services.campaign.delivery.opt_outs import store_opt_outs
from services.campaign.domain.failures import campaign_failure_text
from services.campaign.domain.lifecycle import (
    OUTCOME_TARGET,
    edge_codes,
    report_edges,
)

log = structlog.get_logger()

_EDGES = {channel: edge_codes(report_edges(channel)) for channel in Channel}

PROVIDER_CODE_CHARS_MAX = 64
PROVIDER_MESSAGE_ID_CHARS_MAX = 256


@dataclass(slots=True)
class Learned:
    """What is known about one attempt after a batch: the highest outcome, and ids and sizes from any of the reports."""

    outcome: Outcome
    failure_reason: int
    provider_code: str | None
    provider_message_id: str | None
    segments: int


def fold(
    reports: Iterable[delivery_pb2.Report], channel: Channel
) -> dict[tuple[int, int], Learned]:
    """By number and attempt; reports of an outcome that this version does not know are left out."""
    rank = OUTCOME_RANK[channel]
    learned: dict[tuple[int, int], Learned] = {}
    for report in reports:
        try:
            outcome = Outcome(report.outcome)
        except ValueError:
            log.warning("report_of_unknown_outcome", outcome=int(report.outcome))
            continue
        key = (report.number, report.attempt)
        known = learned.get(key)
        if known is None:
            learned[key] = Learned(
                outcome,
                report.failure_reason,
                _text(report.provider_code, PROVIDER_CODE_CHARS_MAX),
                _text(report.provider_message_id, PROVIDER_MESSAGE_ID_CHARS_MAX),
                max(report.segments, 0),
            )
            continue
        if rank[outcome] > rank[known.outcome]:
            known.outcome = outcome
            known.failure_reason = report.failure_reason
            known.provider_code = _text(report.provider_code, PROVIDER_CODE_CHARS_MAX)
        known.provider_message_id = known.provider_message_id or _text(
            report.provider_message_id, PROVIDER_MESSAGE_ID_CHARS_MAX
        )
        known.segments = max(known.segments, report.segments)
    return learned


class Reports:
    """Applies batches of reports; one transaction a campaign."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        wakeups: Wakeups,
        *,
        recipient_key: bytes,
        look_up_after_seconds: float,
    ) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._recipient_key = recipient_key
        self._look_up_after_seconds = look_up_after_seconds

    async def apply(self, batches: Sequence[delivery_pb2.ReportBatch]) -> None:
        """Commit everything in these batches. When it raises, repeat it: what was committed is not changed again."""
        by_campaign: dict[str, list[delivery_pb2.Report]] = {}
        for batch in batches:
            for part in batch.campaigns:
                by_campaign.setdefault(part.campaign_id, []).extend(part.reports)
        opt_outs = [opt_out for batch in batches for opt_out in batch.opt_outs]
        if opt_outs:
            async with self._pool.acquire() as connection:
                await store_opt_outs(connection, opt_outs, recipient_key=self._recipient_key)
        for campaign_id, reports in by_campaign.items():
            await self._apply_to_campaign(UUID(campaign_id), reports)
        for batch in batches:
            for failure in batch.campaign_failures:
                await self._fail_campaign(failure)
            for ended in batch.ended_instances:
                await self._end_instance(ended)

    async def _apply_to_campaign(
        self, campaign_id: UUID, reports: list[delivery_pb2.Report]
    ) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            campaign = await lock_campaign(connection, campaign_id)
            if campaign is None:  # deleted meanwhile; its late events mean nothing any more
                return
            learned = fold(reports, campaign.channel)
            revision = await self._apply_learned(connection, campaign, learned)
            reached("reports-before-commit")
        reached("reports-committed")
        if revision is not None:
            await self._wakeups.campaign_changed(campaign.organisation_id, campaign_id, revision)

    async def _apply_learned(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        campaign: LockedCampaign,
        learned: dict[tuple[int, int], Learned],
    ) -> int | None:
        known, unknown, no_news, opted_out = [], [], [], []
        for (number, attempt), item in learned.items():
            target = OUTCOME_TARGET[item.outcome]
            if item.outcome is Outcome.UNKNOWN:
                unknown.append((number, attempt))
            elif item.outcome is Outcome.NOT_FOUND:
                no_news.append((number, attempt))
            if target is None:
                continue
            if target is MessageStatus.OPTED_OUT:
                opted_out.append(number)
            known.append((number, attempt, target, item))
        revision = None
        if known:
            told = (
                campaign.id,
                [number for number, _, _, _ in known],
                [attempt for _, attempt, _, _ in known],
                [target for _, _, target, _ in known],
                [_late_status(target) for _, _, target, _ in known],
                [_failure_reason(target, item) for _, _, target, item in known],
                [item.provider_code for _, _, _, item in known],
                [item.provider_message_id for _, _, _, item in known],
                _EDGES[campaign.channel],
                [min(item.segments, 1_000) for _, _, _, item in known],
            )
            rows = await connection.fetch(QUERIES["apply_reports"], *told)
            if campaign.run > 1:
                await connection.execute(QUERIES["apply_reports_to_kept_attempts"], *told)
            # Also where only an id or the segments came: each change of messages is a revision.
            if rows:
                revision = await record_changes(connection, campaign, moves_of(rows))
        if opted_out:
            await connection.execute(
                QUERIES["suppress_contacts"],
                campaign.id,
                campaign.organisation_id,
                campaign.channel,
                opted_out,
            )
        if unknown:
            await self._note_unknown(connection, campaign.id, *_columns(unknown))
        if no_news and campaign.channel is Channel.SMS:
            await connection.execute(QUERIES["note_no_news"], campaign.id, *_columns(no_news))
        return revision

    async def _note_unknown(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        campaign_id: UUID,
        numbers: list[int],
        attempts: list[int],
    ) -> None:
        """These may have gone out: only evidence about the attempt, or the limit, moves them on."""
        await connection.execute(
            QUERIES["note_unknown_attempts"],
            campaign_id,
            numbers,
            attempts,
            self._look_up_after_seconds,
            MessageStatus.SENDING,
        )
        await connection.execute(
            QUERIES["release_unknown_attempts"], campaign_id, numbers, attempts
        )

    async def _fail_campaign(self, failure: delivery_pb2.CampaignFailureReport) -> None:
        reason = _known_reason(failure.failure_reason)
        async with self._pool.acquire() as connection:
            await connection.execute(
                QUERIES["fail_campaign"],
                UUID(failure.campaign_id),
                reason,
                campaign_failure_text(reason),
                _text(failure.provider_code, PROVIDER_CODE_CHARS_MAX) or "",
                failure.run,
            )

    async def _end_instance(self, ended: delivery_pb2.EndedInstance) -> None:
        """Fence the dead process first, so that no claim of it can be committed after we have looked."""
        instance_id = UUID(ended.instance_id)
        begun = {
            UUID(part.campaign_id): (list(part.numbers), list(part.attempts))
            for part in ended.begun
        }
        async with self._pool.acquire() as connection:
            await connection.execute(QUERIES["end_instance"], instance_id)
            reached("instance-fenced")
            campaigns = [
                row["id"] for row in await connection.fetch(QUERIES["campaigns_in_progress"])
            ]
        handed_back = 0
        for campaign_id in campaigns:
            numbers, attempts = begun.get(campaign_id, ([], []))
            handed_back += await self._hand_back(campaign_id, instance_id, numbers, attempts)
        log.info(
            "sender_instance_ended",
            instance_id=str(instance_id),
            handed_back=handed_back,
            begun=sum(len(numbers) for numbers, _ in begun.values()),
        )

    async def _hand_back(
        self, campaign_id: UUID, instance_id: UUID, numbers: list[int], attempts: list[int]
    ) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            campaign = await lock_campaign(connection, campaign_id)
            if campaign is None:
                return 0
            moves = moves_of(
                await connection.fetch(
                    QUERIES["hand_back_instance"], campaign_id, instance_id, numbers, attempts
                )
            )
            if numbers:
                await self._note_unknown(connection, campaign_id, numbers, attempts)
            if not moves:
                return 0
            revision = await record_changes(connection, campaign, moves)
        await self._wakeups.campaign_changed(campaign.organisation_id, campaign_id, revision)
        return len(moves)


def _columns(attempts: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Numbers, and attempts beside them."""
    return [number for number, _ in attempts], [attempt for _, attempt in attempts]


def _text(told: str, characters_max: int) -> str | None:
    """A provider's word as it can be stored: PostgreSQL takes no NUL in a text."""
    return told.replace("\0", "")[:characters_max] or None


def _late_status(target: MessageStatus) -> MessageStatus:
    """What the report means once the message was given up: accepted long ago, no receipt → assumed delivered."""
    return MessageStatus.ASSUMED_DELIVERED if target is MessageStatus.SENT else target


def _known_reason(value: int) -> FailureReason:
    try:
        return FailureReason(value)
    except ValueError:
        return FailureReason.OTHER


def _failure_reason(target: MessageStatus, item: Learned) -> int | None:
    return int(_known_reason(item.failure_reason)) if target is MessageStatus.FAILED else None

"""What the database holds at the end of a run, read from it directly and in one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg

from chaos.history import (
    History,
    MessageChange,
    StoredAttempt,
    StoredCampaign,
    StoredChange,
    StoredMessage,
)
from outreach.postgres.outage import STORE_ERRORS
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus

_COUNTS = ", ".join(status.name.lower() for status in MessageStatus)
# $1: one campaign, or NULL for all.
_WANTED = "k.test_of IS NULL AND ($1::text IS NULL OR k.id = $1::text::uuid)"
_CAMPAIGNS = f"""
SELECT id, channel, status, total, run, revision, stop_time, end_time, {_COUNTS}
FROM campaign k WHERE {_WANTED} ORDER BY id
"""
# As callers see it: queued from the start is WAITING until the first run.
_MESSAGES = f"""
SELECT m.campaign_id, m.number, c.recipient, m.failure_reason, m.run, m.attempt,
       m.provider_message_id, m.provider_code,
       CASE WHEN k.run = 0 AND m.status = 2 THEN 1 ELSE m.status END AS status
FROM campaign k
JOIN message m ON m.campaign_id = k.id
JOIN contact c ON c.campaign_id = m.campaign_id AND c.number = m.number
WHERE {_WANTED}
ORDER BY m.campaign_id, m.number
"""
_ATTEMPTS = f"""
SELECT a.campaign_id, a.number, a.attempt, a.run, a.status, a.failure_reason, a.provider_message_id
FROM message_attempt a JOIN campaign k ON k.id = a.campaign_id
WHERE {_WANTED}
ORDER BY a.campaign_id, a.number, a.attempt
"""
_CHANGES = f"""
SELECT l.campaign_id, l.revision, l.commit_time, l.campaign_status, l.counts, l.numbers, l.statuses,
       l.failure_reasons, l.attempts
FROM change_log l JOIN campaign k ON k.id = l.campaign_id
WHERE {_WANTED}
ORDER BY l.campaign_id, l.revision
"""
_HASHES = """
SELECT number, recipient_hash FROM contact
WHERE campaign_id = $1::text::uuid AND number = ANY ($2)
"""
_CONNECT_SECONDS_MAX = 5.0
_PAUSE_SECONDS = 0.2


async def read_database(dsn: str, history: History, campaign_id: str | None = None) -> None:
    """Add campaigns, messages, attempts and the change log; of one campaign when told which."""
    connection = await _connected(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            history.campaigns += map(_campaign, await connection.fetch(_CAMPAIGNS, campaign_id))
            history.messages += map(_message, await connection.fetch(_MESSAGES, campaign_id))
            history.attempts += map(_attempt, await connection.fetch(_ATTEMPTS, campaign_id))
            history.changes += map(_change, await connection.fetch(_CHANGES, campaign_id))
    finally:
        await connection.close()


async def recipient_hashes(dsn: str, campaign_id: str, numbers: Sequence[int]) -> dict[int, bytes]:
    """The keyed hashes of some contacts, which their unsubscribe links are made of."""
    while True:
        connection = await _connected(dsn)
        try:
            rows = await connection.fetch(_HASHES, campaign_id, [*numbers])
        except STORE_ERRORS:
            continue  # a fault of the run
        finally:
            await connection.close()
        return {row["number"]: row["recipient_hash"] for row in rows}


async def _connected(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection, once PostgreSQL takes one: it may be down or hang by a fault."""
    while True:
        try:
            return await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS_MAX)
        except STORE_ERRORS:
            await asyncio.sleep(_PAUSE_SECONDS)


def _campaign(row: Any) -> StoredCampaign:
    counts = {status: row[status.name.lower()] for status in MessageStatus}
    return StoredCampaign(
        campaign_id=str(row["id"]),
        channel=Channel(row["channel"]),
        status=CampaignStatus(row["status"]),
        counts={status: number for status, number in counts.items() if number},
        total=row["total"],
        run=row["run"],
        revision=row["revision"],
        stop_time=_seconds(row["stop_time"]),
        end_time=_seconds(row["end_time"]),
    )


def _message(row: Any) -> StoredMessage:
    return StoredMessage(
        campaign_id=str(row["campaign_id"]),
        number=row["number"],
        recipient=row["recipient"],
        status=MessageStatus(row["status"]),
        failure_reason=_reason(row["failure_reason"]),
        run=row["run"],
        attempt=row["attempt"],
        provider_message_id=row["provider_message_id"] or "",
        provider_code=row["provider_code"] or "",
    )


def _attempt(row: Any) -> StoredAttempt:
    return StoredAttempt(
        campaign_id=str(row["campaign_id"]),
        number=row["number"],
        attempt=row["attempt"],
        run=row["run"],
        status=MessageStatus(row["status"]),
        failure_reason=_reason(row["failure_reason"]),
        provider_message_id=row["provider_message_id"] or "",
    )


def _change(row: Any) -> StoredChange:
    counts = dict(zip(MessageStatus, row["counts"], strict=True))
    columns = (row["numbers"], row["statuses"], row["failure_reasons"], row["attempts"])
    return StoredChange(
        campaign_id=str(row["campaign_id"]),
        revision=row["revision"],
        commit_time=row["commit_time"].timestamp(),
        status=CampaignStatus(row["campaign_status"]),
        counts={status: number for status, number in counts.items() if number},
        messages=tuple(
            MessageChange(
                number=number,
                status=MessageStatus(status),
                failure_reason=_reason(reason),
                attempt=attempt,
                revision=row["revision"],
            )
            for number, status, reason, attempt in zip(*columns, strict=True)
        ),
    )


def _reason(value: int | None) -> FailureReason | None:
    return FailureReason(value) if value else None


def _seconds(time: datetime | None) -> float | None:
    return time.timestamp() if time is not None else None

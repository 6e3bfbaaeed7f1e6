"""Message rows, as callers see them: WAITING until the campaign is run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from outreach.postgres.queries import load_queries
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.store import Connection, Record

QUERIES = load_queries("services.campaign.store", "messages.sql")


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message with its contact; `variables` in the order of the campaign's variable names."""

    number: int
    recipient: str
    variables: Sequence[str | None]
    status: MessageStatus
    failure_reason: FailureReason | None
    provider_code: str | None
    provider_message_id: str | None
    run: int
    attempt: int
    segments: int
    claim_time: datetime | None
    update_time: datetime


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What a message has to match; empty or None: anything."""

    statuses: tuple[MessageStatus, ...] = ()
    failure_reasons: tuple[FailureReason, ...] = ()
    recipient_hash: bytes | None = None
    run: int | None = None


async def get_message(
    connection: Connection, organisation_id: UUID, campaign_id: UUID, number: int
) -> MessageRecord | None:
    """None: no such message, or not the organisation's."""
    row = await connection.fetchrow(QUERIES["get_message"], organisation_id, campaign_id, number)
    return None if row is None else _message_of(row)


async def list_messages(
    connection: Connection,
    organisation_id: UUID,
    campaign_id: UUID,
    *,
    after: int,
    where: MessageFilter,
    limit: int,
) -> list[MessageRecord]:
    """By number, those after `after`."""
    rows = await connection.fetch(
        QUERIES["list_messages"],
        organisation_id,
        campaign_id,
        after,
        list(where.statuses),
        list(where.failure_reasons),
        where.recipient_hash,
        where.run,
        limit,
    )
    return [_message_of(row) for row in rows]


def _message_of(row: Record) -> MessageRecord:
    reason = row["failure_reason"]
    return MessageRecord(
        number=row["number"],
        recipient=row["recipient"],
        variables=row["variables"],
        status=MessageStatus(row["status"]),
        failure_reason=None if reason is None else FailureReason(reason),
        provider_code=row["provider_code"],
        provider_message_id=row["provider_message_id"],
        run=row["run"],
        attempt=row["attempt"],
        segments=row["segments"],
        claim_time=row["claim_time"],
        update_time=row["update_time"],
    )

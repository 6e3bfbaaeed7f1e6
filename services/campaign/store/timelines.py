"""What became of one message, from the first run on."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from outreach.postgres.queries import load_queries
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.store import Connection

QUERIES = load_queries("services.campaign.store", "timelines.sql")

#: Of a message that is handed back again and again the first ones are shown.
CHANGES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One permission to send the message, and what came of it."""

    attempt: int
    run: int
    status: MessageStatus
    failure_reason: FailureReason | None
    provider_code: str | None
    provider_message_id: str | None
    segments: int
    claim_time: datetime | None
    update_time: datetime


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """The message came to a status; `attempt`: its latest then."""

    time: datetime
    status: MessageStatus
    failure_reason: FailureReason | None
    attempt: int


async def kept_attempts(
    connection: Connection, campaign_id: UUID, number: int
) -> list[AttemptRecord]:
    """Those that a retry has followed."""
    rows = await connection.fetch(QUERIES["kept_attempts"], campaign_id, number)
    return [
        AttemptRecord(
            attempt=row["attempt"],
            run=row["run"],
            status=MessageStatus(row["status"]),
            failure_reason=_reason(row["failure_reason"]),
            provider_code=row["provider_code"],
            provider_message_id=row["provider_message_id"],
            segments=row["segments"],
            claim_time=row["claim_time"],
            update_time=row["update_time"],
        )
        for row in rows
    ]


async def status_changes(
    connection: Connection, campaign_id: UUID, number: int
) -> list[ChangeRecord]:
    """In order, as far as they are kept."""
    rows = await connection.fetch(QUERIES["status_changes"], campaign_id, number, CHANGES_MAX)
    return [
        ChangeRecord(
            row["commit_time"],
            MessageStatus(row["status"]),
            _reason(row["failure_reason"]),
            row["attempt"],
        )
        for row in rows
    ]


async def first_run_time(connection: Connection, campaign_id: UUID) -> datetime | None:
    """When the campaign was run first, which queued every message; None: never."""
    time: datetime | None = await connection.fetchval(QUERIES["first_run_time"], campaign_id)
    return time


def _reason(number: int | None) -> FailureReason | None:
    return FailureReason(number) if number else None

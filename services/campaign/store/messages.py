"""Message rows, as callers see them: WAITING until the campaign is run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from outreach.postgres.queries import load_queries
from outreach.vocabulary import Channel, FailureReason, MessageStatus
from services.campaign.domain.lifecycle import Counts
from services.campaign.store import Connection, Record
from services.campaign.store.campaigns import Column, variable_names_of

QUERIES = load_queries("services.campaign.store", "messages.sql")

#: Messages that one page of a list looks at, however rare what it looks for.
LOOKED_AT_MAX = 10_000
#: Messages of one recipient in one campaign that are found by the recipient.
RECIPIENT_NUMBERS_MAX = 1_000


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
    recipient_contains: str = ""
    run: int | None = None


@dataclass(frozen=True, slots=True)
class MessageListHead:
    """What a list of a campaign's messages has to know of it."""

    channel: Channel
    counts: Counts
    variable_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages by number; `looked_through`: up to this one all that match are in it."""

    messages: list[MessageRecord]
    looked_through: int


async def get_message(
    connection: Connection, organisation_id: UUID, campaign_id: UUID, number: int
) -> MessageRecord | None:
    """None: no such message, or not the organisation's."""
    row = await connection.fetchrow(QUERIES["get_message"], organisation_id, campaign_id, number)
    return None if row is None else _message_of(row)


async def get_list_head(
    connection: Connection, organisation_id: UUID, campaign_id: UUID
) -> MessageListHead | None:
    """None: the organisation has no such campaign."""
    row = await connection.fetchrow(QUERIES["message_list_head"], organisation_id, campaign_id)
    if row is None:
        return None
    columns = tuple(Column(**raw) for raw in orjson.loads(row["columns"]))
    return MessageListHead(
        Channel(row["channel"]), Counts(*row["counts"]), variable_names_of(columns)
    )


async def list_messages(
    connection: Connection,
    campaign_id: UUID,
    *,
    after: int,
    total: int,
    where: MessageFilter,
    limit: int,
) -> MessagePage:
    """By number, those after `after` of the campaign's `total`; looks at LOOKED_AT_MAX at most."""
    last = min(after + LOOKED_AT_MAX, total)
    narrow = [list(where.statuses), list(where.failure_reasons), where.run, limit]
    hash_, part = where.recipient_hash, where.recipient_contains
    numbers = None if hash_ is None else await _numbers_of(connection, campaign_id, hash_)
    who: list[object] = []
    if numbers is not None:
        last = total  # few, and all of them known
        query, who = "list_messages_by_number", [numbers, part]
    elif hash_ is not None or part:
        query, who = "list_messages_of_recipients", [hash_, part]
    else:
        query = "list_messages"
    rows = await connection.fetch(QUERIES[query], campaign_id, after + 1, last, *narrow, *who)
    messages = [_message_of(row) for row in rows]
    return MessagePage(messages, messages[-1].number if len(messages) == limit else last)


async def _numbers_of(
    connection: Connection, campaign_id: UUID, recipient_hash: bytes
) -> list[int] | None:
    """All of a recipient; None: so many that they are looked for by number, in steps."""
    rows = await connection.fetch(
        QUERIES["numbers_of_recipient"], recipient_hash, campaign_id, RECIPIENT_NUMBERS_MAX + 1
    )
    return None if len(rows) > RECIPIENT_NUMBERS_MAX else [row["number"] for row in rows]


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

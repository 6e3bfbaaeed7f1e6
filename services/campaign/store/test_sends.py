"""Test sends: hidden campaigns of a few messages each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from outreach.postgres.queries import load_queries
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.domain.content import Content
from services.campaign.domain.lifecycle import FINAL
from services.campaign.store import Connection
from services.campaign.store.content_json import content_to_json

QUERIES = load_queries("services.campaign.store", "test_sends.sql")

#: Product rule: results can be looked at for so long (test_send.proto).
KEPT_DAYS = 7
#: Test sends removed by one call of `purge_test_sends`, or in one step of `delete_test_sends_of`.
DELETED_TOGETHER_MAX = 500

_CUSTOM_VARIABLE = 2
_NOT_HANDED_OVER = frozenset({MessageStatus.QUEUED, MessageStatus.SENDING})


@dataclass(frozen=True, slots=True)
class TestMessageRecord:
    """What became of one recipient's message."""

    recipient: str
    status: MessageStatus
    failure_reason: FailureReason | None
    provider_code: str | None
    provider_message_id: str | None
    update_time: datetime


@dataclass(frozen=True, slots=True)
class TestSendRecord:
    """A test send as it is now; its messages in the order of the request's recipients."""

    id: UUID
    campaign_id: UUID
    create_time: datetime
    messages: tuple[TestMessageRecord, ...]

    @property
    def is_handed_over(self) -> bool:
        """Whether a sender has nothing to do with it any more."""
        return not any(message.status in _NOT_HANDED_OVER for message in self.messages)

    @property
    def is_final(self) -> bool:
        """Whether every message is."""
        return all(message.status in FINAL for message in self.messages)


@dataclass(frozen=True, slots=True)
class TestedContent:
    """Of a campaign's content what a test send needs beside it. `compiled` None: not an email, or
    one that could not be compiled.
    """

    content_hash: str
    compiled: bytes | None


@dataclass(frozen=True, slots=True)
class NewTestSend:
    """What a test send is made of. `variables` in the order of `variable_names`, None: no value.

    `recipient_hashes` beside `recipients`; `compiled` is None for an SMS.
    """

    id: UUID
    campaign_id: UUID
    content: Content
    content_hash: str
    compiled: bytes | None
    variable_names: Sequence[str]
    variables: Sequence[str | None]
    recipients: Sequence[str]
    recipient_hashes: Sequence[bytes]
    segments: int


async def keep_tested(
    connection: Connection, organisation_id: UUID, campaign_id: UUID
) -> TestedContent | None:
    """Until the transaction ends nobody deletes the campaign or edits its content; None: the
    organisation has no such campaign.
    """
    # The campaign first, as whoever deletes it does; nobody waits for the other crosswise then.
    await connection.execute(QUERIES["keep_campaign"], organisation_id, campaign_id)
    row = await connection.fetchrow(QUERIES["keep_content"], organisation_id, campaign_id)
    return None if row is None else TestedContent(row["content_hash"], row["compiled"])


async def count_under_way(connection: Connection, organisation_id: UUID) -> int:
    """Test sends that senders still have to do with; nobody begins another one before the
    transaction ends.
    """
    await connection.execute(QUERIES["lock_organisation"], organisation_id)
    count: int = await connection.fetchval(QUERIES["count_under_way"], organisation_id)
    return count


async def insert_test_send(connection: Connection, new: NewTestSend) -> None:
    """Queued: senders may claim its messages from the commit on."""
    columns = [
        {"name": name, "role": _CUSTOM_VARIABLE, "variable_name": name}
        for name in new.variable_names
    ]
    await connection.execute(
        QUERIES["insert_test_send"],
        new.id,
        new.campaign_id,
        len(new.recipients),
        float(new.segments),
    )
    await connection.execute(
        QUERIES["insert_test_content"],
        new.id,
        new.campaign_id,
        new.content_hash,
        content_to_json(new.content),
        orjson.dumps(columns).decode(),
        new.compiled,
    )
    await connection.execute(
        QUERIES["insert_test_messages"],
        new.id,
        list(new.recipients),
        list(new.recipient_hashes),
        list(new.variables),
    )


async def get_test_send(
    connection: Connection, organisation_id: UUID, test_send_id: UUID
) -> TestSendRecord | None:
    """None: the organisation has no such test send, or not any more."""
    rows = await connection.fetch(QUERIES["get_test_send"], organisation_id, test_send_id)
    if not rows:
        return None
    return TestSendRecord(
        id=test_send_id,
        campaign_id=rows[0]["test_of"],
        create_time=rows[0]["create_time"],
        messages=tuple(
            TestMessageRecord(
                recipient=row["recipient"],
                status=MessageStatus(row["status"]),
                failure_reason=row["failure_reason"] and FailureReason(row["failure_reason"]),
                provider_code=row["provider_code"],
                provider_message_id=row["provider_message_id"],
                update_time=row["update_time"],
            )
            for row in rows
        ),
    )


async def purge_test_sends(connection: Connection) -> int:
    """Remove test sends older than KEPT_DAYS, at most DELETED_TOGETHER_MAX of them, with all that
    is theirs; gives how many.
    """
    async with connection.transaction():
        rows = await connection.fetch(
            QUERIES["lock_old_test_sends"], KEPT_DAYS, DELETED_TOGETHER_MAX
        )
        await connection.execute(QUERIES["delete_test_sends"], [row["id"] for row in rows])
    return len(rows)


async def delete_test_sends_of(connection: Connection, campaign_id: UUID) -> int:
    """Remove all test sends of a campaign, in the caller's transaction; gives how many.

    For the deletion of the campaign itself, which has to hold its row (FOR UPDATE) before, so that
    no further test send is made: the foreign key alone would leave messages and contacts behind.
    """
    deleted = 0
    while True:
        rows = await connection.fetch(
            QUERIES["lock_test_sends_of"], campaign_id, DELETED_TOGETHER_MAX
        )
        if not rows:
            return deleted
        await connection.execute(QUERIES["delete_test_sends"], [row["id"] for row in rows])
        deleted += len(rows)

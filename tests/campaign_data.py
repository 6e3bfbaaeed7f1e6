"""Campaigns put straight into the database, for tests of what comes after the lifecycle's own verbs."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from outreach.recipients import recipient_hash
from outreach.vocabulary import Channel, MessageStatus

RECIPIENT_KEY = b"a key for tests, nothing is secret"


@dataclass
class Wakes:
    """Counts wake-ups; the revision of the latest."""

    revisions: list[int] = field(default_factory=list)

    async def campaign_changed(
        self, organisation_id: UUID, campaign_id: UUID, revision: int
    ) -> None:
        self.revisions.append(revision)


@dataclass(frozen=True)
class Running:
    """A campaign in its first run."""

    organisation_id: UUID
    campaign_id: UUID
    contacts: int


async def running_campaign(
    pool: Any, contacts: int, *, organisation_id: UUID | None = None, channel: Channel = Channel.SMS
) -> Running:
    """IN_PROGRESS, run 1, all messages queued, to `recipient(1)` and up."""
    if organisation_id is None:
        organisation_id = uuid4()
        await pool.execute(
            "INSERT INTO organisation (id, name) VALUES ($1, 'Tests')", organisation_id
        )
    campaign_id = uuid4()
    # One commit: who watches sees it whole.
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            """
            INSERT INTO campaign (id, organisation_id, channel, name, missing_variable_policy, status,
                holds_channel, queued, total, run, revision, start_time)
            VALUES ($1, $2, $3, 'A campaign', 1, 3, true, $4, $4, 1, 1, now())
            """,
            campaign_id,
            organisation_id,
            channel,
            contacts,
        )
        await connection.execute(
            """
            INSERT INTO campaign_content (campaign_id, content_hash, content, columns)
            VALUES ($1, 'hash-1', $2::text::jsonb, $3::text::jsonb)
            """,
            campaign_id,
            orjson.dumps({"body": "Hello {{name}}"}).decode(),
            orjson.dumps([{"name": "name", "role": 2, "variable_name": "name"}]).decode(),
        )
        await connection.executemany(
            "INSERT INTO contact VALUES ($1, $2, $3, $4, $5)",
            [
                (
                    campaign_id,
                    number,
                    recipient(number, channel),
                    hash_of(number, channel),
                    [f"Name {number}"],
                )
                for number in range(1, contacts + 1)
            ],
        )
        await connection.execute(
            "INSERT INTO message (campaign_id, number, status) SELECT $1, generate_series(1, $2), 2",
            campaign_id,
            contacts,
        )
    return Running(organisation_id, campaign_id, contacts)


def recipient(number: int, channel: Channel = Channel.SMS) -> str:
    """The recipient of a message number."""
    return f"+1500555{number:04d}" if channel is Channel.SMS else f"person{number}@example.com"


def hash_of(number: int, channel: Channel = Channel.SMS) -> bytes:
    """What stands for that recipient."""
    return recipient_hash(RECIPIENT_KEY, channel, recipient(number, channel))


async def statuses(pool: Any, campaign_id: UUID) -> dict[int, MessageStatus]:
    """By message number, from the message rows."""
    rows = await pool.fetch(
        "SELECT number, status FROM message WHERE campaign_id = $1 ORDER BY number", campaign_id
    )
    return {row["number"]: MessageStatus(row["status"]) for row in rows}


async def campaign_row(pool: Any, campaign_id: UUID) -> asyncpg.Record:
    """The campaign's row."""
    row: asyncpg.Record | None = await pool.fetchrow(
        "SELECT * FROM campaign WHERE id = $1", campaign_id
    )
    assert row is not None
    return row


async def assert_exact(pool: Any, campaign_id: UUID) -> None:
    """Counts on the row equal the messages, and the log replayed gives the messages' states."""
    row = await campaign_row(pool, campaign_id)
    by_message = await statuses(pool, campaign_id)
    for status in MessageStatus:
        count = sum(1 for value in by_message.values() if value is status)
        assert row[status.name.lower()] == count, status
    replayed = dict.fromkeys(by_message, MessageStatus.QUEUED)
    log = await pool.fetch(
        "SELECT * FROM change_log WHERE campaign_id = $1 ORDER BY revision", campaign_id
    )
    for entry in log:
        for number, status in zip(entry["numbers"], entry["statuses"], strict=True):
            replayed[number] = MessageStatus(status)
    assert replayed == by_message
    revisions = [entry["revision"] for entry in log]
    assert revisions == list(range(2, 2 + len(revisions))), "revisions are consecutive"
    assert row["revision"] == 1 + len(revisions)
    if log:
        assert log[-1]["counts"] == [row[status.name.lower()] for status in MessageStatus]

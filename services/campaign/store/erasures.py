"""Removing a person's data, and that of all contacts of a campaign, from the tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from outreach.postgres.queries import load_queries
from outreach.vocabulary import Channel, MessageStatus
from services.campaign.delivery.changes import LockedCampaign, Move, record_changes
from services.campaign.store import Connection
from services.campaign.store.campaigns import log_change

QUERIES = load_queries("services.campaign.store", "erasures.sql")

#: Contacts in one transaction, and so in one revision.
BATCH_CONTACTS_MAX: Final = 1_000
#: An import that is under way is waited for so long.
IMPORT_WAIT_SECONDS_MAX: Final = 90.0
#: Answers that carry recipients (rpc): of no other call are any kept.
_METHODS: Final = ("CreateTestSend", "CreateSuppression")
_ANSWERS_TOGETHER: Final = 1_000
_UNDER_WAY: Final = frozenset({MessageStatus.SENDING, MessageStatus.SENT, MessageStatus.RETRYING})


@dataclass(frozen=True, slots=True)
class PersonsCampaign:
    """A campaign, or a test send, that has the person as a contact."""

    id: UUID
    is_test: bool


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A file of contacts that waits for its import."""

    id: UUID
    campaign_id: UUID
    encoding: str


@dataclass(frozen=True, slots=True)
class ErasedMessages:
    """What became of the messages of contacts that were erased; `revision`: the campaign's now."""

    opted_out: int
    under_way: int
    revision: int


async def campaigns_of_person(
    connection: Connection, organisation_id: UUID, channel: Channel, recipient_hash: bytes
) -> list[PersonsCampaign]:
    """By id."""
    rows = await connection.fetch(
        QUERIES["campaigns_of_person"], recipient_hash, organisation_id, channel
    )
    return [PersonsCampaign(row["id"], row["is_test"]) for row in rows]


async def erase_contacts(
    connection: Connection, campaign_id: UUID, recipient_hash: bytes
) -> list[int]:
    """Up to BATCH_CONTACTS_MAX contacts of one person; the numbers."""
    rows = await connection.fetch(
        QUERIES["erase_contacts"], campaign_id, recipient_hash, BATCH_CONTACTS_MAX
    )
    return [row["number"] for row in rows]


async def strip_contacts(connection: Connection, campaign_id: UUID, after: int) -> list[int]:
    """The next up to BATCH_CONTACTS_MAX contacts, in the order of their numbers; the numbers."""
    rows = await connection.fetch(QUERIES["strip_contacts"], campaign_id, after, BATCH_CONTACTS_MAX)
    return [row["number"] for row in rows]


async def erase_messages(
    connection: Connection, campaign: LockedCampaign, numbers: Sequence[int]
) -> ErasedMessages:
    """Of contacts that were erased in this transaction: those still to be sent are OPTED_OUT.

    A new revision also where no status changes: what was exported before is of another content.
    """
    rows = await connection.fetch(QUERIES["erase_messages"], campaign.id, numbers)
    await connection.execute(QUERIES["erase_attempts"], campaign.id, numbers)
    # Queued from the import on, and counted as waiting until the first run.
    source = MessageStatus.QUEUED if campaign.run else MessageStatus.WAITING
    moves = [
        Move(row["number"], row["attempt"], source, row["new_status"])
        for row in rows
        if row["old_status"] != row["new_status"]
    ]
    under_way = sum(row["new_status"] in _UNDER_WAY for row in rows)
    if not moves:
        return ErasedMessages(0, under_way, await log_change(connection, campaign.id))
    ahead = sum(move.number > campaign.dispatched_through for move in moves)
    await connection.execute(QUERIES["fewer_to_dispatch"], campaign.id, ahead)
    revision = await record_changes(connection, campaign, moves)
    return ErasedMessages(len(moves), under_way, revision)


async def pending_uploads(
    connection: Connection, organisation_id: UUID, channel: Channel
) -> list[PendingUpload]:
    """Of the organisation's campaigns on the channel."""
    rows = await connection.fetch(QUERIES["pending_uploads"], organisation_id, channel)
    return [PendingUpload(row["id"], row["campaign_id"], row["encoding"]) for row in rows]


async def discard_upload(connection: Connection, upload: PendingUpload) -> None:
    """Remove a file; one that is being imported now is waited for, and then gone already."""
    await connection.execute(
        QUERIES["wait_for_import"], upload.campaign_id, timeout=IMPORT_WAIT_SECONDS_MAX
    )
    await connection.execute(QUERIES["delete_upload"], upload.id)


async def empty_answers(connection: Connection, organisation_id: UUID, recipient: str) -> int:
    """Of kept answers that name the recipient nothing stays but that their ids were used; gives
    how many. `recipient` in small letters.
    """
    after, emptied = UUID(int=0), 0
    while True:
        rows = await connection.fetch(
            QUERIES["answers_after"], organisation_id, _METHODS, after, _ANSWERS_TOGETHER
        )
        found = [
            row["request_id"]
            for row in rows
            if recipient in row["response"].decode("utf-8", "replace").lower()
        ]
        if found:
            await connection.execute(QUERIES["empty_answers"], organisation_id, found)
            emptied += len(found)
        if len(rows) < _ANSWERS_TOGETHER:
            return emptied
        after = rows[-1]["request_id"]

"""The files that an email campaign's recipients get, in pieces of at most 1 MiB."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from outreach.postgres.queries import load_queries
from services.campaign.store import Connection

QUERIES = load_queries("services.campaign.store", "attachments.sql")


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """A file that is complete and not stored yet; `sha256` is that of its content."""

    id: UUID
    campaign_id: UUID
    file_name: str
    content_type: str
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Attachment(NewAttachment):
    """A stored file."""

    create_time: datetime


@dataclass(frozen=True, slots=True)
class AttachmentsUsed:
    """How many files a campaign has, and their size together."""

    count: int
    size_bytes: int


async def insert_attachment(
    connection: Connection, new: NewAttachment, pieces: AsyncIterator[bytes]
) -> Attachment:
    """Store a file; `pieces` are of at most 1 MiB."""
    create_time: datetime = await connection.fetchval(
        QUERIES["insert_attachment"],
        new.id,
        new.campaign_id,
        new.file_name,
        new.content_type,
        new.size_bytes,
        new.sha256,
    )
    ordinal = 0
    async for piece in pieces:
        await connection.execute(QUERIES["insert_attachment_chunk"], new.id, ordinal, piece)
        ordinal += 1
    return Attachment(
        id=new.id,
        campaign_id=new.campaign_id,
        file_name=new.file_name,
        content_type=new.content_type,
        size_bytes=new.size_bytes,
        sha256=new.sha256,
        create_time=create_time,
    )


async def list_attachments(connection: Connection, campaign_id: UUID) -> list[Attachment]:
    """In the order in which they were added."""
    rows = await connection.fetch(QUERIES["list_attachments"], campaign_id)
    return [Attachment(**row) for row in rows]


async def list_sent_attachments(connection: Connection, campaign_id: UUID) -> list[Attachment]:
    """What goes with the campaign's messages; with a test send's, what the tested campaign has."""
    rows = await connection.fetch(QUERIES["list_sent_attachments"], campaign_id)
    return [Attachment(**row) for row in rows]


async def get_sent_attachment(
    connection: Connection, campaign_id: UUID, attachment_id: UUID
) -> Attachment | None:
    """One of `list_sent_attachments`; None: it is none of them."""
    row = await connection.fetchrow(QUERIES["get_sent_attachment"], campaign_id, attachment_id)
    return None if row is None else Attachment(**row)


async def get_attachment_piece(
    connection: Connection, attachment_id: UUID, ordinal: int
) -> bytes | None:
    """One piece of a file, from 0; None: there are no more."""
    data: bytes | None = await connection.fetchval(
        QUERIES["get_attachment_chunk"], attachment_id, ordinal
    )
    return data


async def attachments_used(connection: Connection, campaign_id: UUID) -> AttachmentsUsed:
    """Final only under the campaign's lock."""
    row = await connection.fetchrow(QUERIES["attachments_used"], campaign_id)
    assert row is not None
    return AttachmentsUsed(row["count"], row["size_bytes"])


async def delete_attachment(connection: Connection, campaign_id: UUID, attachment_id: UUID) -> bool:
    """False: the campaign has no such file."""
    deleted = await connection.fetchval(QUERIES["delete_attachment"], campaign_id, attachment_id)
    return deleted is not None

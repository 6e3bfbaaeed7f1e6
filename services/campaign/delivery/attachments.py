"""A campaign's attachments on their way to the senders: what there is, and one after the other."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import grpc.aio

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2
from services.campaign.store import Pool
from services.campaign.store.attachments import (
    get_attachment_piece,
    get_sent_attachment,
    list_sent_attachments,
)
from services.campaign.usecases.guards import attachment_not_found


async def content_attachments(
    pool: Pool, campaign_id: UUID
) -> list[delivery_pb2.ContentAttachment]:
    """In the order in which they were added."""
    async with pool.acquire() as connection:
        found = await list_sent_attachments(connection, campaign_id)
    return [
        delivery_pb2.ContentAttachment(
            id=str(attachment.id),
            file_name=attachment.file_name,
            content_type=attachment.content_type,
            size_bytes=attachment.size_bytes,
            sha256=attachment.sha256.hex(),
        )
        for attachment in found
    ]


async def attachment_pieces(
    pool: Pool, campaign_id: UUID, attachment_id: UUID
) -> AsyncGenerator[bytes]:
    """The file's bytes, at most 1 MiB at a time; no connection is held in between.

    ATTACHMENT_NOT_FOUND: also when it is deleted meanwhile, so that what ends without an error is
    whole.
    """
    async with pool.acquire() as connection:
        attachment = await get_sent_attachment(connection, campaign_id, attachment_id)
    if attachment is None:
        raise attachment_not_found()
    ordinal = given_bytes = 0
    while given_bytes < attachment.size_bytes:
        async with pool.acquire() as connection:
            piece = await get_attachment_piece(connection, attachment_id, ordinal)
        if piece is None:
            raise attachment_not_found()
        yield piece
        given_bytes += len(piece)
        ordinal += 1


async def write_attachment(
    context: grpc.aio.ServicerContext[Any, Any],
    pieces: AsyncGenerator[bytes],
    *,
    write_seconds_max: float,
) -> None:
    """Send the pieces; DEADLINE_EXCEEDED when the sender does not take one for so long."""
    async with aclosing(pieces):
        async for piece in pieces:
            try:
                async with asyncio.timeout(write_seconds_max):
                    await context.write(delivery_pb2.GetAttachmentResponse(chunk=piece))
            except TimeoutError:
                raise OutreachError(
                    "DEADLINE_EXCEEDED", "The sender does not read the attachment; fetch it again."
                ) from None

"""The calls of `outreach.v1.AttachmentService`: add files to an email campaign, list, take off."""

from __future__ import annotations

import asyncio
import hashlib
from functools import cached_property
from pathlib import Path

from outreach.client.connection import Connection, new_request_id
from outreach.client.uploads import (
    Source,
    UploadProgress,
    chunks_of,
    framed,
    size_of,
    uploaded,
)
from outreach.v1 import attachment_pb2, attachment_pb2_grpc

# A larger file is refused for its size: no need to read all of it first.
_CHECKSUM_BYTES_MAX = 64 * 1024 * 1024


class AttachmentCalls(Connection):
    """Every recipient gets these files. Every call raises `CallError` (`attachment.proto`)."""

    async def upload_attachment(
        self,
        campaign_id: str,
        source: Source,
        *,
        file_name: str | None = None,
        content_type: str = "",
        size_bytes: int | None = None,
        sha256: str = "",
        request_id: str | None = None,
        on_progress: UploadProgress | None = None,
    ) -> attachment_pb2.Attachment:
        """Add one file.

        A path or bytes are sent again from the start, with the same request id, while the service
        is unavailable; an iterator can be read only once, so its upload is tried once.

        Args:
            campaign_id: an email campaign that has not been run.
            source: the file, its bytes, or an iterator of pieces of any size.
            file_name: as recipients see it; by default the path's name.
            content_type: a media type; by default what goes with the name's extension.
            size_bytes: of an iterator's file, when known; a shorter file is then refused.
            sha256: of an iterator's file in hexadecimal, when known; another file is then refused.
                That of a path or bytes is found out here.
            request_id: made here unless given.
            on_progress: called after each chunk.
        """
        if isinstance(source, Path | bytes):
            size_bytes = await size_of(source)
            sha256 = await _checksum(source, size_bytes)
        if isinstance(source, Path):
            file_name = file_name or source.name
        header = attachment_pb2.AttachmentHeader(
            campaign_id=campaign_id,
            file_name=file_name or "",
            content_type=content_type,
            size_bytes=size_bytes or 0,
            sha256=sha256,
            request_id=request_id or new_request_id(),
        )

        async def once() -> attachment_pb2.Attachment:
            call = self._attachments.UploadAttachment(
                timeout=self.timeouts.transfer_seconds, metadata=self._metadata
            )
            frames = framed(
                attachment_pb2.UploadAttachmentRequest(header=header),
                chunks_of(source, size_bytes, on_progress),
                lambda chunk: attachment_pb2.UploadAttachmentRequest(chunk=chunk),
            )
            return await uploaded(call, frames)

        if isinstance(source, Path | bytes):
            return await self._repeat(once)
        return await once()

    async def list_attachments(self, campaign_id: str) -> attachment_pb2.ListAttachmentsResponse:
        """All of them in the order in which they were added, and what they have together."""
        request = attachment_pb2.ListAttachmentsRequest(campaign_id=campaign_id)
        return await self._call(self._attachments.ListAttachments, request)

    async def delete_attachment(
        self, campaign_id: str, attachment_id: str, *, request_id: str | None = None
    ) -> None:
        """Take one off a campaign that has not been run."""
        request = attachment_pb2.DeleteAttachmentRequest(
            campaign_id=campaign_id,
            id=attachment_id,
            request_id=request_id or new_request_id(),
        )
        await self._call(self._attachments.DeleteAttachment, request)

    @cached_property
    def _attachments(self) -> attachment_pb2_grpc.AttachmentServiceAsyncStub:
        return attachment_pb2_grpc.AttachmentServiceStub(self._channel)


async def _checksum(source: Path | bytes, size_bytes: int) -> str:
    """In hexadecimal; empty: not worth the time."""
    if size_bytes > _CHECKSUM_BYTES_MAX:
        return ""
    return await asyncio.to_thread(_sha256, source)


def _sha256(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

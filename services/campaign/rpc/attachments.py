"""AttachmentService."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import structlog

from outreach.rpc.call import current_caller
from outreach.v1 import attachment_pb2, attachment_pb2_grpc
from services.campaign.rpc.convert import timestamp
from services.campaign.rpc.fields import Fields, request_key
from services.campaign.rpc.uploads import (
    UPLOADS_AT_ONCE_MAX,
    chunks_of,
    header_frame,
    limited_upload,
)
from services.campaign.store import Connection, Pool
from services.campaign.store.attachments import Attachment
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases.delete_attachment import delete_attachment
from services.campaign.usecases.list_attachments import list_attachments
from services.campaign.usecases.once import Once
from services.campaign.usecases.upload_attachment import (
    AttachCommand,
    command_violations,
    receive_attachment,
    refused_header,
    store_attachment,
)

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_log = structlog.get_logger()

_Context = grpc.aio.ServicerContext[Any, Any]
_Frames = AsyncIterator[attachment_pb2.UploadAttachmentRequest]


class AttachmentServicer(attachment_pb2_grpc.AttachmentServiceServicer):
    """Thin: reads the requests, calls the use cases, writes the answers. See attachment.proto."""

    def __init__(self, pool: Pool, *, bytes_max: int) -> None:
        """`bytes_max`: of all attachments of a campaign together."""
        self._pool = pool
        self._once = Once(pool)
        self._bytes_max = bytes_max
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE_MAX)

    async def UploadAttachment(
        self, request_iterator: Any, context: _Context
    ) -> attachment_pb2.Attachment:
        async with limited_upload():
            attachment = await self._upload(aiter(request_iterator), context)
        _log.info(
            "attachment_added",
            campaign_id=attachment.campaign_id,
            attachment_id=attachment.id,
            size_bytes=attachment.size_bytes,
        )
        return attachment

    async def _upload(self, frames: _Frames, context: _Context) -> attachment_pb2.Attachment:
        caller = current_caller()
        header = (await header_frame(frames)).header
        command = _command_of(header)
        async with self._uploads:
            with UploadSpool() as spool:
                sha256 = await receive_attachment(
                    self._pool, caller, command, chunks_of(frames, context), spool, self._bytes_max
                )
                # The same request is one with the same header and the same file.
                header.sha256 = sha256.hex()
                key = request_key(Fields(), caller, "UploadAttachment", header, header.request_id)

                async def store(connection: Connection) -> attachment_pb2.Attachment:
                    return _attachment_to_proto(
                        await store_attachment(
                            connection, caller, command, spool, sha256, self._bytes_max
                        )
                    )

                return await self._once(key, attachment_pb2.Attachment, store)

    async def ListAttachments(
        self, request: attachment_pb2.ListAttachmentsRequest, context: object
    ) -> attachment_pb2.ListAttachmentsResponse:
        fields = Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        fields.check()
        found = await list_attachments(self._pool, current_caller(), campaign_id)
        return attachment_pb2.ListAttachmentsResponse(
            attachments=map(_attachment_to_proto, found),
            size_bytes=sum(attachment.size_bytes for attachment in found),
            size_bytes_max=self._bytes_max,
        )

    async def DeleteAttachment(
        self, request: attachment_pb2.DeleteAttachmentRequest, context: object
    ) -> attachment_pb2.DeleteAttachmentResponse:
        caller, fields = current_caller(), Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        attachment_id = fields.uuid("id", request.id)
        key = request_key(fields, caller, "DeleteAttachment", request, request.request_id)
        fields.check()

        async def delete(connection: Connection) -> attachment_pb2.DeleteAttachmentResponse:
            await delete_attachment(connection, caller, campaign_id, attachment_id)
            return attachment_pb2.DeleteAttachmentResponse()

        return await self._once(key, attachment_pb2.DeleteAttachmentResponse, delete)


def _command_of(header: attachment_pb2.AttachmentHeader) -> AttachCommand:
    """The first frame of an upload; the error names every field at fault."""
    fields = Fields()
    if header.sha256 and not _SHA256.fullmatch(header.sha256):
        fields.refuse("header.sha256", "FIELD_INVALID", "Give 64 hexadecimal digits.")
        sha256 = None
    else:
        sha256 = bytes.fromhex(header.sha256) or None
    command = AttachCommand(
        campaign_id=fields.uuid("header.campaign_id", header.campaign_id),
        file_name=header.file_name,
        content_type=header.content_type,
        size_bytes=header.size_bytes,
        sha256=sha256,
        request_id=fields.optional_uuid("header.request_id", header.request_id),
    )
    violations = [*fields.violations, *command_violations(command)]
    if violations:
        raise refused_header(violations)
    return command


def _attachment_to_proto(attachment: Attachment) -> attachment_pb2.Attachment:
    return attachment_pb2.Attachment(
        id=str(attachment.id),
        campaign_id=str(attachment.campaign_id),
        file_name=attachment.file_name,
        content_type=attachment.content_type,
        size_bytes=attachment.size_bytes,
        sha256=attachment.sha256.hex(),
        create_time=timestamp(attachment.create_time),
    )

"""The campaign service with an organisation that may send email, for tests of attachments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from outreach.client import CallError, OutreachClient
from outreach.v1 import attachment_pb2, attachment_pb2_grpc, campaign_pb2, channel_pb2
from outreach.vocabulary import CampaignStatus, Channel
from tests.campaign_service import Service, Tenant, campaign_service

_TABLES = ("campaign", "campaign_content", "change_log", "attachment", "attachment_chunk")


@dataclass
class AttachmentRig:
    """The service, and one organisation's client."""

    service: Service
    tenant: Tenant
    client: OutreachClient

    @property
    def pool(self) -> Any:
        return self.service.pool

    async def campaign(self) -> str:
        """A new email campaign; its id."""
        created = await self.tenant.create(
            channel=channel_pb2.CHANNEL_EMAIL,
            sms=None,
            email=campaign_pb2.EmailContent(subject="Hello"),
        )
        return created.id

    async def set_status(self, campaign_id: str, status: CampaignStatus) -> None:
        """Bring a campaign into any state, as it might have got there."""
        await self.pool.execute(
            "UPDATE campaign SET status = $2, holds_channel = ($2::smallint = 3) WHERE id = $1",
            UUID(campaign_id),
            status,
        )

    async def names(self, campaign_id: str) -> list[str]:
        """Of the campaign's attachments, in their order."""
        listed = await self.client.list_attachments(campaign_id)
        return [attachment.file_name for attachment in listed.attachments]

    async def content_hash(self, campaign_id: str) -> str:
        """As senders get it."""
        found: str = await self.pool.fetchval(
            "SELECT content_hash FROM campaign_content WHERE campaign_id = $1", UUID(campaign_id)
        )
        return found

    async def send_frames(
        self, frames: Iterable[attachment_pb2.UploadAttachmentRequest]
    ) -> attachment_pb2.Attachment:
        """An upload frame by frame; AioRpcError as gRPC gives it."""

        async def sent() -> AsyncIterator[attachment_pb2.UploadAttachmentRequest]:
            for frame in frames:
                yield frame

        return await self.stub.UploadAttachment(sent(), metadata=self.tenant.metadata)

    @property
    def stub(self) -> attachment_pb2_grpc.AttachmentServiceAsyncStub:
        return attachment_pb2_grpc.AttachmentServiceStub(self.service.channel)

    async def state(self) -> dict[str, list[Any]]:
        """All that a refused call must leave alone."""
        return {
            table: sorted(map(tuple, await self.pool.fetch(f"SELECT * FROM {table}")), key=repr)
            for table in _TABLES
        }

    async def refused(self, call: Awaitable[Any]) -> CallError:
        """The refusal, having checked that everything stored is as before."""
        before = await self.state()
        with pytest.raises(CallError) as caught:
            await call
        assert await self.state() == before
        return caught.value


@asynccontextmanager
async def attachment_rig(database_dsn: str, **settings: Any) -> AsyncIterator[AttachmentRig]:
    """The service on free ports, until the block is left."""
    async with campaign_service(database_dsn, **settings) as service:
        tenant = await service.tenant(channels=(Channel.SMS, Channel.EMAIL))
        async with OutreachClient(service.public_address, tenant.key) as client:
            yield AttachmentRig(service, tenant, client)


def header_frame(campaign_id: str, **more: Any) -> attachment_pb2.UploadAttachmentRequest:
    """The first frame of an upload of `a.txt`, unless `more` says otherwise."""
    fields: dict[str, Any] = {"file_name": "a.txt", **more}
    header = attachment_pb2.AttachmentHeader(campaign_id=campaign_id, **fields)
    return attachment_pb2.UploadAttachmentRequest(header=header)


def chunk_frame(data: bytes) -> attachment_pb2.UploadAttachmentRequest:
    """A frame with bytes of the file."""
    return attachment_pb2.UploadAttachmentRequest(chunk=data)

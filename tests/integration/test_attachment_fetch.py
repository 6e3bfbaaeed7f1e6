"""Senders fetch attachments: what they are told of them, their bytes, and files that go away meanwhile."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import grpc
import grpc.aio
import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.internal.v1 import delivery_pb2_grpc
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.errors import from_status
from services.campaign.delivery import servicer
from services.campaign.delivery.attachments import attachment_pieces, write_attachment
from tests.attachment_rig import AttachmentRig, attachment_rig
from tests.campaign_service import INTERNAL_TOKEN
from tests.waiting import eventually

MIB = 1024 * 1024


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[AttachmentRig]:
    async with attachment_rig(database_dsn) as rig:
        yield rig


@asynccontextmanager
async def sender(
    rig: AttachmentRig,
) -> AsyncIterator["delivery_pb2_grpc.DeliveryServiceAsyncStub"]:
    channel = create_channel(rig.service.internal_address)
    try:
        yield delivery_pb2_grpc.DeliveryServiceStub(channel)
    finally:
        await channel.close()


def fetching(stub: Any, campaign_id: str, attachment_id: str) -> Any:
    request = pb.GetAttachmentRequest(campaign_id=campaign_id, attachment_id=attachment_id)
    return stub.GetAttachment(request, metadata=bearer(INTERNAL_TOKEN), timeout=60)


async def fetched(stub: Any, campaign_id: str, attachment_id: str) -> list[bytes]:
    return [r.chunk async for r in fetching(stub, campaign_id, attachment_id)]


def noise(size_bytes: int) -> bytes:
    return b"\x01" + random.Random(size_bytes).randbytes(size_bytes - 1)


async def test_the_content_names_them_in_their_order(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    added = [
        await rig.client.upload_attachment(campaign_id, b"a" * size, file_name=name)
        for name, size in (("z.pdf", 3), ("a.txt", 5))
    ]
    await rig.client.upload_attachment(await rig.campaign(), b"x", file_name="another's.txt")
    async with sender(rig) as stub:
        content = await stub.GetCampaignContent(
            pb.GetCampaignContentRequest(campaign_id=campaign_id),
            metadata=bearer(INTERNAL_TOKEN),
            timeout=60,
        )
    assert list(content.attachments) == [
        pb.ContentAttachment(
            id=attachment.id,
            file_name=attachment.file_name,
            content_type=attachment.content_type,
            size_bytes=attachment.size_bytes,
            sha256=attachment.sha256,
        )
        for attachment in added
    ]
    assert content.content_hash == await rig.content_hash(campaign_id)


@pytest.mark.parametrize("size_bytes", [1, MIB - 1, MIB, MIB + 1, 20 * MIB])
async def test_the_bytes_are_those_that_were_uploaded(rig: AttachmentRig, size_bytes: int) -> None:
    campaign_id, data = await rig.campaign(), noise(size_bytes)
    attachment = await rig.client.upload_attachment(campaign_id, data, file_name="a.bin")
    async with sender(rig) as stub:
        pieces = await fetched(stub, campaign_id, attachment.id)
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= MIB
    assert hashlib.sha256(data).hexdigest() == attachment.sha256


async def test_one_that_is_not_there(rig: AttachmentRig) -> None:
    campaign_id, other_id = await rig.campaign(), await rig.campaign()
    attachment = await rig.client.upload_attachment(campaign_id, b"x", file_name="a.txt")
    async with sender(rig) as stub:
        for campaign, wanted, reason in (
            (campaign_id, str(uuid4()), "ATTACHMENT_NOT_FOUND"),
            (other_id, attachment.id, "ATTACHMENT_NOT_FOUND"),
            (campaign_id, "42", "INVALID_REQUEST"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await fetched(stub, campaign, wanted)
            assert from_status(caught.value).reason == reason


async def test_a_test_send_has_those_of_the_campaign_it_tests(rig: AttachmentRig) -> None:
    campaign_id, test_id = await rig.campaign(), await rig.campaign()
    attachment = await rig.client.upload_attachment(campaign_id, b"Hello", file_name="a.txt")
    await rig.pool.execute(
        "UPDATE campaign SET test_of = $2 WHERE id = $1", UUID(test_id), UUID(campaign_id)
    )
    async with sender(rig) as stub:
        content = await stub.GetCampaignContent(
            pb.GetCampaignContentRequest(campaign_id=test_id),
            metadata=bearer(INTERNAL_TOKEN),
            timeout=60,
        )
        assert [each.id for each in content.attachments] == [attachment.id]
        assert await fetched(stub, test_id, attachment.id) == [b"Hello"]


async def test_one_that_is_taken_off_meanwhile_does_not_end_as_if_it_were_whole(
    rig: AttachmentRig,
) -> None:
    campaign_id = await rig.campaign()
    attachment = await rig.client.upload_attachment(campaign_id, noise(3 * MIB), file_name="a.bin")
    pieces = attachment_pieces(rig.pool, UUID(campaign_id), UUID(attachment.id))
    assert len(await anext(pieces)) == MIB
    await rig.client.delete_attachment(campaign_id, attachment.id)
    with pytest.raises(Exception, match="ATTACHMENT_NOT_FOUND"):
        await anext(pieces)


async def test_a_slow_sender_holds_no_connection_and_may_go_away(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    attachment = await rig.client.upload_attachment(campaign_id, noise(20 * MIB), file_name="a.bin")
    async with sender(rig) as stub:
        calls = [fetching(stub, campaign_id, attachment.id) for _ in range(30)]
        for call in calls:
            assert (await call.read()).chunk
        # More fetches are under way than there are connections, and none is held.
        assert rig.pool.get_max_size() < len(calls)
        await eventually(lambda: _idle(rig), what="connections given back")
        for call in calls[1:]:
            call.cancel()
        rest = 0
        while (response := await calls[0].read()) is not grpc.aio.EOF:
            rest += len(response.chunk)
        assert rest == 19 * MIB
    await eventually(lambda: _idle(rig), what="connections given back")


async def test_a_sender_that_takes_nothing_is_cut_off(
    rig: AttachmentRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.service.parts.delivery.write_seconds_max = 2.0
    ended = asyncio.Event()

    async def write(*arguments: Any, **more: Any) -> None:
        try:
            await write_attachment(*arguments, **more)
        finally:
            ended.set()

    monkeypatch.setattr(servicer, "write_attachment", write)
    campaign_id = await rig.campaign()
    attachment = await rig.client.upload_attachment(campaign_id, noise(20 * MIB), file_name="a.bin")
    async with sender(rig) as stub:
        call = fetching(stub, campaign_id, attachment.id)
        read_bytes = len((await call.read()).chunk)
        await ended.wait()
        # Reading on, it gets what was under way, and then is told.
        with suppress(grpc.aio.AioRpcError):
            while (response := await call.read()) is not grpc.aio.EOF:
                read_bytes += len(response.chunk)
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert read_bytes < 20 * MIB


def _idle(rig: AttachmentRig) -> bool:
    idle: bool = rig.pool.get_idle_size() == rig.pool.get_size()
    return idle

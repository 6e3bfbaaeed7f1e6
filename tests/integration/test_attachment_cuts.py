"""Uploads that end in the middle leave nothing; whole ones do not fill the memory of the service."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from outreach.client import CallError, OutreachClient
from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.local.ports import free_port
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.health_check import serving
from outreach.v1 import attachment_pb2, campaign_pb2, channel_pb2
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases import upload_attachment as usecase
from tests.attachment_rig import AttachmentRig, attachment_rig, chunk_frame, header_frame
from tests.campaign_service import INTERNAL_TOKEN
from tests.tcp_cuts import CuttableRelay
from tests.waiting import eventually

MIB = 1024 * 1024
TEXT = b"Dear all,\r\nwe open at nine.\r\n"
_append = UploadSpool.append


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[AttachmentRig]:
    async with attachment_rig(database_dsn) as rig:
        yield rig


def _idle(rig: AttachmentRig) -> bool:
    idle: bool = rig.pool.get_idle_size() == rig.pool.get_size()
    return idle


async def test_broken_off_uploads_leave_nothing(
    rig: AttachmentRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC ends the stream of a cancelled upload like that of a complete one."""
    campaign_id = await rig.campaign()
    before = await rig.state()
    taken_in, complete = 0, []

    async def append(self: UploadSpool, chunk: bytes) -> None:
        nonlocal taken_in
        await _append(self, chunk)
        taken_in += 1

    monkeypatch.setattr(UploadSpool, "append", append)
    monkeypatch.setattr(usecase, "executable_kind", lambda *_, **__: complete.append(1))
    for round_ in range(30):

        async def frames() -> AsyncIterator[attachment_pb2.UploadAttachmentRequest]:
            # The size is not announced: nothing but the end tells that the file is complete.
            yield header_frame(campaign_id)
            yield chunk_frame(TEXT)
            await asyncio.Event().wait()

        call = rig.stub.UploadAttachment(frames(), metadata=rig.tenant.metadata)
        answer = asyncio.ensure_future(call)
        await eventually(lambda: taken_in > round_)  # noqa: B023 - asked at once
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
    await eventually(lambda: _idle(rig), what="connections given back")
    assert not complete
    assert await rig.state() == before


async def test_a_connection_cut_in_the_middle_leaves_nothing(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    before = await rig.state()
    async with CuttableRelay.to(rig.service.public_address) as relay:
        for _ in range(5):
            async with OutreachClient(relay.address, rig.tenant.key) as client:

                async def pieces() -> AsyncIterator[bytes]:
                    yield bytes(3 * MIB)
                    relay.cut()
                    yield bytes(MIB)

                with pytest.raises(CallError) as caught:
                    await client.upload_attachment(campaign_id, pieces(), file_name="a.bin")
                assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    await eventually(lambda: _idle(rig), what="connections given back")
    assert await rig.state() == before


async def test_a_connection_cut_once_costs_nothing_but_time(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    data = random.Random(1).randbytes(8 * MIB)
    async with (
        CuttableRelay.to(rig.service.public_address) as relay,
        OutreachClient(relay.address, rig.tenant.key) as client,
    ):
        cuts = 0

        def cut_once(done: int, _total: int | None) -> None:
            nonlocal cuts
            if done > 4 * MIB and not cuts:
                cuts = relay.cut()

        attachment = await client.upload_attachment(
            campaign_id, data, file_name="a.bin", on_progress=cut_once
        )
    assert cuts == 1
    assert attachment.size_bytes == len(data)
    assert await rig.names(campaign_id) == ["a.bin"]


#: Uploads for ever; says when a part is on its way.
_UPLOADER = """
import asyncio, sys
from outreach.client import OutreachClient
address, key, campaign_id = sys.argv[1:]
async def pieces():
    yield bytes(2 * 1024 * 1024)
    print("under way", flush=True)
    await asyncio.Event().wait()
async def main():
    async with OutreachClient(address, key) as client:
        await client.upload_attachment(campaign_id, pieces(), file_name="a.bin")
asyncio.run(main())
"""


async def test_a_client_killed_in_the_middle_leaves_nothing(
    rig: AttachmentRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = await rig.campaign()
    before = await rig.state()
    spools: list[UploadSpool] = []
    closed: list[UploadSpool] = []
    enter, leave = UploadSpool.__enter__, UploadSpool.__exit__

    def entered(self: UploadSpool) -> UploadSpool:
        spools.append(self)
        return enter(self)

    def left(self: UploadSpool, *error: Any) -> None:
        leave(self, *error)
        closed.append(self)

    monkeypatch.setattr(UploadSpool, "__enter__", entered)
    monkeypatch.setattr(UploadSpool, "__exit__", left)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _UPLOADER),
        *(rig.service.public_address, rig.tenant.key, campaign_id),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"under way\n"
    await eventually(lambda: spools and spools[0].size_bytes >= MIB, what="a part came in")
    process.kill()
    await process.wait()
    await eventually(lambda: closed == spools, what="the upload is over")
    await eventually(lambda: _idle(rig), what="connections given back")
    assert await rig.state() == before
    assert await rig.names(campaign_id) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
async def test_memory_stays_flat(database_dsn: str, tmp_path: Path) -> None:
    """20 MB in and out, again and again, in a process of its own.

    One at a time: what gRPC itself holds of several on one connection is another matter.
    """
    port, internal_port, api_key = free_port(), free_port(), "a key for tests, of 32 characters"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.campaign"),
        env={
            **os.environ,
            "OUTREACH_POSTGRES_DSN": database_dsn,
            "OUTREACH_NATS_URL": f"nats://127.0.0.1:{free_port()}",
            "OUTREACH_SECRET_KEY": "a secret for tests, of at least 32 characters",
            "OUTREACH_INTERNAL_TOKEN": INTERNAL_TOKEN,
            "OUTREACH_CAMPAIGN_GRPC_PORT": str(port),
            "OUTREACH_CAMPAIGN_INTERNAL_PORT": str(internal_port),
            "OUTREACH_BOOTSTRAP_ORGANISATION_NAME": "Tests",
            "OUTREACH_BOOTSTRAP_API_KEY": api_key,
        },
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        address = f"127.0.0.1:{port}"
        await eventually(lambda: serving(address, timeout_seconds=10.0), 240.0, what="it serves")
        connection = await asyncpg.connect(database_dsn)
        await connection.execute(
            "INSERT INTO provider_account (organisation_id, channel, settings, secret)"
            " SELECT id, 2, '{}', '' FROM organisation"
        )
        await connection.close()
        small, large = tmp_path / "small.bin", tmp_path / "large.bin"
        small.write_bytes(b"\x01" * (2 * MIB))
        large.write_bytes(b"\x01" * (20 * MIB))
        async with OutreachClient(address, api_key) as client:
            channel = create_channel(f"127.0.0.1:{internal_port}")
            try:
                for _ in range(3):
                    await _in_and_out(client, channel, small)  # what grows only once has grown
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # forget the peak so far
                before = _memory_bytes(process.pid, "VmRSS")
                for _ in range(5):
                    await _in_and_out(client, channel, large)
                more = _memory_bytes(process.pid, "VmHWM") - before
            finally:
                await channel.close()
        assert more < 30 * MIB, f"{more / MIB:.0f} MiB more at the peak"
    finally:
        process.terminate()
        await process.wait()


async def _in_and_out(client: OutreachClient, channel: grpc.aio.Channel, path: Path) -> None:
    """Upload the file to a new campaign, then fetch it."""
    stub: Any = delivery_pb2_grpc.DeliveryServiceStub(channel)
    campaign = await client.create_campaign(
        name="Large",
        channel=channel_pb2.CHANNEL_EMAIL,
        email=campaign_pb2.EmailContent(subject="Hello"),
    )
    attachment = await client.upload_attachment(campaign.id, path)
    request = delivery_pb2.GetAttachmentRequest(
        campaign_id=campaign.id, attachment_id=attachment.id
    )
    call = stub.GetAttachment(request, metadata=bearer(INTERNAL_TOKEN), timeout=120)
    assert sum([len(response.chunk) async for response in call]) == path.stat().st_size


def _memory_bytes(pid: int, name: str) -> int:
    """A line of the process's status: VmRSS is now, VmHWM the highest so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")

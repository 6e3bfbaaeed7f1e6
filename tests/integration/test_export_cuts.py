"""Exports that are cut, slow, outlived by their campaign, or asked to go on."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc.aio
import pytest

from outreach.client import CallError, OutreachClient, Timeouts
from outreach.errors import OutreachError
from outreach.local.embedded import EmbeddedPostgres, temporary_data_dir
from outreach.postgres.migrate import migrate
from outreach.rpc.errors import from_status
from outreach.v1 import export_pb2
from outreach.vocabulary import CampaignStatus, MessageStatus
from services.export.store import steps
from tests.export_rig import ExportRig, Stored, export_rig, whole
from tests.tcp_cuts import CuttableRelay
from tests.waiting import eventually

LARGE = [Stored(f"r{n}", [f"{n:06d}" * 500]) for n in range(2_000)]
#: More than all buffers between a service and a reader that stands still.
HUGE = [Stored(f"r{n}", [f"{n:06d}" * 650]) for n in range(14_000)]


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[ExportRig]:
    async with export_rig(database_dsn, export_write_seconds_max=120) as rig:
        yield rig


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP_ROWS_MAX", 100)


async def _asked(rig: ExportRig, campaign: str, **fields: Any) -> tuple[bytes, Any]:
    """The bytes and the end, or the OutreachError that the status carries."""
    call = rig.stub.ExportMessages(
        export_pb2.ExportMessagesRequest(campaign_id=campaign, **fields), metadata=rig.metadata
    )
    data, end = b"", None
    try:
        async for response in call:
            data += response.chunk
            end = response.end if response.HasField("end") else end
    except grpc.aio.AioRpcError as error:
        raise from_status(error) from error
    return data, end


async def _ended(call: Any) -> OutreachError:
    """How a call that is read to its end was refused."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return from_status(error)
    raise AssertionError("it ended well")


async def test_going_on_at_any_byte_gives_the_same_file(rig: ExportRig) -> None:
    campaign = await rig.campaign(
        [Stored(f"+1{n}", ['é"\n', None]) for n in range(250)], names=["a", "b"]
    )
    data, end = await _asked(rig, campaign)
    assert (end.size_bytes, end.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    for offset in (1, 5, len(data) // 2, len(data) - 1, len(data)):
        rest, same = await _asked(rig, campaign, offset_bytes=offset, revision=7)
        assert rest == data[offset:]
        assert same == end
    with pytest.raises(OutreachError, match="EXPORT_OFFSET_INVALID"):
        await _asked(rig, campaign, offset_bytes=len(data) + 1, revision=7)
    with pytest.raises(OutreachError, match="INVALID_REQUEST"):
        await _asked(rig, campaign, offset_bytes=1)
    with pytest.raises(OutreachError, match="INVALID_REQUEST"):
        await _asked(rig, campaign, offset_bytes=-1, revision=7)


async def test_a_campaign_that_changed_or_runs_is_not_gone_on_with(rig: ExportRig) -> None:
    final = await rig.campaign([Stored("r")])
    running = await rig.campaign(
        [Stored("r", status=MessageStatus.SENT)], status=CampaignStatus.IN_PROGRESS
    )
    for campaign, revision in ((final, 6), (running, 7)):
        with pytest.raises(OutreachError, match="EXPORT_CHANGED"):
            await _asked(rig, campaign, offset_bytes=3, revision=revision)


async def test_a_change_while_bytes_are_skipped_ends_the_export(
    rig: ExportRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await rig.campaign([Stored("r") for _ in range(300)])
    data, _ = await _asked(rig, campaign)
    copy, copies = steps._copy, 0

    async def changing(*arguments: Any) -> Any:
        nonlocal copies
        copies += 1
        if copies == 2:
            await rig.pool.execute(
                "UPDATE campaign SET revision = revision + 1 WHERE id = $1", UUID(campaign)
            )
        return await copy(*arguments)

    monkeypatch.setattr(steps, "_copy", changing)
    with pytest.raises(OutreachError, match="EXPORT_CHANGED"):
        await _asked(rig, campaign, offset_bytes=len(data) - 1, revision=7)
    assert copies >= 2


async def test_a_connection_that_breaks_is_gone_on_with_byte_by_byte(rig: ExportRig) -> None:
    campaign = await rig.campaign(LARGE, names=["v"])
    expected = await whole(rig.client.export_messages(campaign))
    async with (
        CuttableRelay.to(rig.address) as relay,
        OutreachClient("127.0.0.1:9", rig.api_key, export_address=relay.address) as client,
    ):
        export, data, cuts = client.export_messages(campaign), b"", 0
        async for chunk in export:
            data += chunk
            if len(data) > (cuts + 1) * 1_500_000 and cuts < 3:
                cuts += relay.cut()
    assert cuts == 3
    assert data == expected
    assert export.end is not None
    assert export.end.sha256 == hashlib.sha256(expected).hexdigest()


async def test_a_file_of_a_running_campaign_begins_anew(rig: ExportRig, tmp_path: Path) -> None:
    """And has its name only once it is whole."""
    campaign = await rig.campaign(
        [*LARGE, Stored("r", ["x"], MessageStatus.SENT)], names=["v"],
        status=CampaignStatus.IN_PROGRESS,
    )  # fmt: skip
    expected = await whole(rig.client.export_messages(campaign))
    path, began, last = tmp_path / "out.csv", 0, 0
    async with (
        CuttableRelay.to(rig.address) as relay,
        OutreachClient("127.0.0.1:9", rig.api_key, export_address=relay.address) as client,
    ):

        def cut_once(_rows: int, _rows_max: int, size_bytes: int) -> None:
            nonlocal began, last
            if size_bytes < last:
                began += 1
            elif not began and size_bytes > 2_000_000:
                relay.cut()
            last = size_bytes
            assert not path.exists()

        end = await client.export_messages(campaign).save(path, on_progress=cut_once)
        assert began == 1
        assert path.read_bytes() == expected
        assert end.rows == len(LARGE) + 1
        packed = tmp_path / "out.csv.gz"
        await client.export_messages(campaign).save(packed, compress=True)
    assert gzip.decompress(packed.read_bytes()) == expected
    assert sorted(tmp_path.iterdir()) == [path, packed]


async def test_a_file_that_is_not_whole_is_not_left(rig: ExportRig, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="CAMPAIGN_NOT_FOUND"):
        await rig.client.export_messages(str(UUID(int=1))).save(tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


async def test_what_arrives_changed_is_noticed(
    rig: ExportRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await rig.campaign([Stored("r")])
    export = rig.client.export_messages(campaign)
    take = export._take

    def falsified(response: Any) -> bytes:
        response.chunk = response.chunk.replace(b"r", b"R") if response.chunk else response.chunk
        return take(response)

    monkeypatch.setattr(
        export, "_take", lambda r: falsified(r) if r.WhichOneof("part") == "chunk" else take(r)
    )
    with pytest.raises(CallError, match="DATA_LOSS"):
        await whole(export)


async def test_deleted_meanwhile_it_ends_in_the_middle(rig: ExportRig) -> None:
    campaign = await rig.campaign(LARGE, names=["v"])
    export = rig.client.export_messages(campaign)
    reader = aiter(export)
    await anext(reader)
    await rig.pool.execute("DELETE FROM campaign WHERE id = $1", UUID(campaign))
    with pytest.raises(CallError, match="CAMPAIGN_NOT_FOUND"):
        await _rest(reader)
    assert export.end is None
    assert 0 < export.size_bytes < 6_000_000


async def _snapshots(rig: ExportRig) -> list[str]:
    return [
        row["query"]
        for row in await rig.pool.fetch(
            "SELECT query FROM pg_stat_activity WHERE usename = 'outreach_export'"
            " AND datname = current_database() AND (backend_xmin IS NOT NULL OR state <> 'idle')"
        )
    ]


async def test_a_reader_that_stands_still_holds_no_snapshot_and_is_cut_off(
    database_dsn: str,
) -> None:
    async with export_rig(database_dsn, export_write_seconds_max=2) as rig:
        await _stands_still(rig)


async def _stands_still(rig: ExportRig) -> None:
    campaign = await rig.campaign(HUGE, names=["v"])
    call = rig.stub.ExportMessages(
        export_pb2.ExportMessagesRequest(campaign_id=campaign), metadata=rig.metadata
    )
    assert (await call.read()).HasField("start")

    # Nothing is read: the service goes on until its few buffers are full, then waits without PostgreSQL.
    async def no_snapshot_is_held() -> bool:
        return not await _snapshots(rig)

    await eventually(no_snapshot_is_held)

    async def cut_off() -> bool:
        return not rig.servicer._open

    await eventually(cut_off, 60)
    assert (await _ended(call)).reason == "EXPORT_READER_TOO_SLOW"
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_more_than_there_is_room_for_are_told_to_come_later(database_dsn: str) -> None:
    async with export_rig(database_dsn, export_streams_max=1) as rig:
        campaign = await rig.campaign(LARGE, names=["v"])
        first = rig.stub.ExportMessages(
            export_pb2.ExportMessagesRequest(campaign_id=campaign), metadata=rig.metadata
        )
        assert (await first.read()).HasField("start")
        with pytest.raises(OutreachError, match="EXPORTS_BUSY"):
            await _asked(rig, campaign)
        first.cancel()

        async def free() -> bool:
            return not rig.servicer._open

        await eventually(free)
        await _asked(rig, campaign)


async def test_a_server_that_stops_lets_exports_end_and_then_ends_them(rig: ExportRig) -> None:
    campaign = await rig.campaign(LARGE, names=["v"])
    call = rig.stub.ExportMessages(
        export_pb2.ExportMessagesRequest(campaign_id=campaign), metadata=rig.metadata
    )
    assert (await call.read()).HasField("start")
    ending = asyncio.create_task(rig.servicer.finished(seconds_max=60))
    await asyncio.sleep(0)
    with pytest.raises(OutreachError, match="SERVER_DRAINING"):
        await _asked(rig, campaign)
    # Read on: the export that is under way ends well.
    last = export_pb2.ExportResponse()
    while (response := await call.read()) is not grpc.aio.EOF:
        last = response
    assert last.HasField("end")
    await asyncio.wait_for(ending, 60)

    rig.servicer._draining = False
    call = rig.stub.ExportMessages(
        export_pb2.ExportMessagesRequest(campaign_id=campaign), metadata=rig.metadata
    )
    assert (await call.read()).HasField("start")
    rig.servicer.end_streams()
    assert (await _ended(call)).reason == "SERVER_DRAINING"


async def test_postgres_restarted_in_the_middle_is_waited_out() -> None:
    """A final campaign's export goes on at the same byte."""
    server = EmbeddedPostgres(temporary_data_dir(), durable=False)
    again = EmbeddedPostgres(server.data_dir, server.port, durable=False)
    try:
        await _through_a_restart(server, again)
    finally:
        shutil.rmtree(server.data_dir)


async def _through_a_restart(server: EmbeddedPostgres, again: EmbeddedPostgres) -> None:
    async with server:
        await migrate(server.dsn)
        rig_ = export_rig(server.dsn)
        rig = await rig_.__aenter__()
        campaign = await rig.campaign(LARGE, names=["v"])
        expected = await whole(rig.client.export_messages(campaign))
        timeouts = Timeouts(retry_seconds_max=60)
        client = OutreachClient(
            "127.0.0.1:9", rig.api_key, export_address=rig.address, timeouts=timeouts
        )
        export = client.export_messages(campaign)
        reader = aiter(export)
        data = await anext(reader)
        data += await anext(reader)
    rest = asyncio.create_task(_rest(reader))
    async with again:
        data += await asyncio.wait_for(rest, 60)
        assert data == expected
        await client.close()
        await rig_.__aexit__(None, None, None)


async def _rest(reader: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in reader])

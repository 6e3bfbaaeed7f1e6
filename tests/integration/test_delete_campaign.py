"""Deleting campaigns: gone at once for callers, the rows in the background; in every status, beside all else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import (
    campaign_pb2,
    channel_pb2,
    contact_pb2,
    contact_pb2_grpc,
    test_send_pb2,
    test_send_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
)
from outreach.v1.failure_reason_pb2 import FAILURE_REASON_ACCOUNT_PROBLEM
from outreach.vocabulary import CampaignStatus, Channel
from services.campaign.deletions import Deletions
from services.campaign.store import contacts as stored_contacts
from services.campaign.store import deletions as store
from services.campaign.store.deletions import LEFT
from services.campaign.usecases import import_contacts as importing
from tests.campaign_service import Service, Tenant, campaign_service, refused
from tests.delivery_rig import Delivery
from tests.waiting import eventually

S = CampaignStatus
DELETABLE = {S.CREATED, S.READY, S.COMPLETE, S.COMPLETE_WITH_ERRORS, S.FAILED}
#: The only tables that may know a deleted campaign when all is done.
KEPT = {"disclaimer_acceptance", "request_log"}


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


async def put_in(service: Service, campaign_id: str, status: CampaignStatus) -> None:
    """A campaign of three messages, as it would be in this status."""
    counts = {
        S.IN_PROGRESS: (3, 0, 0, 0),
        S.ACTIVE_RETRIES: (0, 1, 2, 0),
        S.COMPLETE: (0, 0, 3, 0),
        S.COMPLETE_WITH_ERRORS: (0, 0, 2, 1),
        S.FAILED: (0, 0, 3, 0),
    }.get(status)
    if counts is None:
        await service.pool.execute(
            "UPDATE campaign SET status = $2 WHERE id = $1", UUID(campaign_id), status
        )
        return
    await service.pool.execute(
        "UPDATE campaign SET status = $2::smallint, holds_channel = ($2::smallint = 3), run = 1, waiting = 0,"
        " queued = $3, retrying = $4, delivered = $5, failed = $6, start_time = now(),"
        " end_time = CASE WHEN $2::smallint IN (3, 4) THEN NULL ELSE now() END WHERE id = $1",
        UUID(campaign_id),
        status,
        *counts,
    )


async def knowing(service: Service, campaign_id: str) -> set[str]:
    """The tables that have the id in any uuid column, or in any text of theirs."""
    columns = await service.pool.fetch(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'uuid'"
    )
    return {
        row["table_name"]
        for row in columns
        if await service.pool.fetchval(
            f'SELECT EXISTS (SELECT FROM "{row["table_name"]}" WHERE "{row["column_name"]}" = $1)',
            UUID(campaign_id),
        )
    }


async def everything_of(service: Service, tenant: Tenant, campaign_id: str) -> None:
    """A row in every table that has rows of campaigns."""
    key = UUID(campaign_id)
    for statement in (
        (
            "INSERT INTO message_attempt (campaign_id, number, attempt, run, status, update_time)"
            " VALUES ($1, 1, 1, 1, 6, now())"
        ),
        (
            "INSERT INTO unknown_attempt (campaign_id, number, attempt, next_look_up_time)"
            " VALUES ($1, 1, 1, now())"
        ),
        "INSERT INTO contact_problem VALUES ($1, 1, 2, 'phone', 'ROW_RAGGED', 'x')",
        (
            "INSERT INTO change_log (campaign_id, revision, campaign_status, counts, numbers, statuses,"
            " failure_reasons, attempts) SELECT $1, n, 5, '{}', '{}', '{}', '{}', '{}'"
            " FROM generate_series(100, 350) AS n"
        ),
        (
            "INSERT INTO disclaimer_acceptance (campaign_id, run, organisation_id, version, accepted_by)"
            " SELECT $1, 1, organisation_id, 'v', 'ann' FROM campaign WHERE id = $1"
        ),
        (
            "INSERT INTO attachment (id, campaign_id, file_name, content_type, size_bytes, sha256)"
            " VALUES (gen_random_uuid(), $1, 'a.txt', 'text/plain', 1, decode(repeat('00', 32), 'hex'))"
        ),
        (
            "INSERT INTO upload (id, campaign_id, consent_by, description, size_bytes)"
            " VALUES (gen_random_uuid(), $1, 'ann', '{}', 1)"
        ),
        "INSERT INTO upload_chunk SELECT id, 0, 'x' FROM upload WHERE campaign_id = $1",
        "INSERT INTO attachment_chunk SELECT id, 0, 'x' FROM attachment WHERE campaign_id = $1",
    ):
        await service.pool.execute(statement, key)


async def clear(service: Service) -> None:
    """What the background does, until nothing is left."""
    while await service.parts.deletions.sweep():
        continue
    assert await service.pool.fetchval("SELECT count(*) FROM deleted_campaign") == 0


@pytest.mark.parametrize("channel", list(Channel))
@pytest.mark.parametrize("status", list(CampaignStatus))
async def test_in_every_status(service: Service, status: CampaignStatus, channel: Channel) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    await service.pool.execute(
        "UPDATE campaign SET channel = $2 WHERE id = $1", UUID(campaign.id), channel
    )
    await service.pool.execute(
        "UPDATE campaign_content SET content = '{}' WHERE campaign_id = $1 AND $2::int = 2",
        UUID(campaign.id),
        channel,
    )
    await put_in(service, campaign.id, status)
    before = await service.dump()
    actions = (await tenant.get(campaign.id)).allowed_actions
    allowed = campaign_pb2.CAMPAIGN_ACTION_DELETE in actions
    assert allowed == (status in DELETABLE)
    if not allowed:
        async with refused("ACTION_NOT_ALLOWED") as caught:
            await tenant.delete(campaign.id)
        metadata = caught["error"].metadata
        assert (metadata["action"], metadata["status"]) == ("DELETE", status.name)
        assert set(metadata["allowed_statuses"].split(",")) == {s.name for s in DELETABLE}
        assert await service.dump() == before
        return
    await tenant.delete(campaign.id)
    async with refused("CAMPAIGN_NOT_FOUND"):
        await tenant.get(campaign.id)
    await clear(service)
    assert await knowing(service, campaign.id) == set()


async def test_all_of_it_goes_and_nothing_of_others(service: Service) -> None:
    tenant = await service.tenant()
    other = await service.ready(tenant)
    campaign = await service.ready(tenant)
    for each in (campaign, other):
        await everything_of(service, tenant, each.id)
    stub: Any = test_send_pb2_grpc.TestSendServiceStub(service.channel)
    service.parts.test_sends._answer_seconds_max = 0.0  # nobody sends
    tests = [
        await tenant.call(
            stub.CreateTestSend,
            test_send_pb2.CreateTestSendRequest(campaign_id=each.id, recipients=["+15005559001"]),
        )
        for each in (campaign, other)
    ]
    before = await knowing(service, other.id)
    assert before > {row.table for row in LEFT}
    await tenant.delete(campaign.id)
    # At once: what callers could ask for. Later: the rest.
    assert await service.pool.fetchval("SELECT count(*) FROM upload_chunk") == 1
    assert await service.pool.fetchval("SELECT count(*) FROM attachment_chunk") == 1
    assert "message" in await knowing(service, campaign.id)
    error = await _error(
        tenant.call(stub.GetTestSend, test_send_pb2.GetTestSendRequest(id=tests[0].id))
    )
    assert error.reason == "TEST_SEND_NOT_FOUND"
    await clear(service)
    assert await knowing(service, campaign.id) == {"disclaimer_acceptance"}
    assert await knowing(service, tests[0].id) == set()
    assert await knowing(service, other.id) == before
    assert {"campaign", "message", "contact"} <= await knowing(service, tests[1].id)


async def _error(call: Any) -> OutreachError:
    with pytest.raises(OutreachError) as caught:
        await call
    return caught.value


async def test_a_request_id_makes_it_repeatable(service: Service) -> None:
    tenant = await service.tenant()
    campaign, other = await service.ready(tenant), await service.ready(tenant)
    request_id = str(uuid4())
    await tenant.delete(campaign.id, request_id=request_id)
    await tenant.delete(campaign.id, request_id=request_id)
    async with refused("REQUEST_ID_REUSED"):
        await tenant.delete(other.id, request_id=request_id)
    async with refused("CAMPAIGN_NOT_FOUND"):
        await tenant.delete(campaign.id)
    async with refused("INVALID_REQUEST", ("id", "FIELD_INVALID")):
        await tenant.delete("nonsense")


async def test_another_etag_is_refused(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    before = await service.dump()
    async with refused("ETAG_MISMATCH") as caught:
        await tenant.delete(campaign.id, etag="an older one")
    assert caught["error"].metadata["current_etag"] == campaign.etag
    assert await service.dump() == before
    await tenant.delete(campaign.id, etag=campaign.etag)


async def test_of_many_deletions_one_is_the_one(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    outcomes = await asyncio.gather(
        *(tenant.delete(campaign.id) for _ in range(10)), return_exceptions=True
    )
    reasons = [getattr(outcome, "reason", None) for outcome in outcomes]
    assert sorted(map(str, reasons)) == ["CAMPAIGN_NOT_FOUND"] * 9 + ["None"]
    assert await service.pool.fetchval("SELECT count(*) FROM deleted_campaign") == 1


async def test_run_and_delete_at_once_one_wins(service: Service) -> None:
    tenant = await service.tenant()
    for _ in range(5):
        campaign = await service.ready(tenant)
        ran, deleted = await asyncio.gather(
            tenant.run(campaign.id), tenant.delete(campaign.id), return_exceptions=True
        )
        if isinstance(deleted, OutreachError):
            assert deleted.reason == "ACTION_NOT_ALLOWED"
            assert not isinstance(ran, BaseException)
            await put_in(service, campaign.id, S.COMPLETE)  # frees the channel
        else:
            assert isinstance(ran, OutreachError)
            assert ran.reason == "CAMPAIGN_NOT_FOUND"


async def test_a_watch_of_it_ends(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    stub: Any = watch_pb2_grpc.WatchServiceStub(service.channel)
    hub = asyncio.create_task(service.parts.hub.run())
    await asyncio.sleep(0)
    call = stub.WatchCampaign(
        watch_pb2.WatchCampaignRequest(campaign_id=campaign.id), metadata=tenant.metadata
    )
    token = (await call.read()).resume_token
    await tenant.delete(campaign.id)
    error = await _error(tenant.call(lambda *_, **__: _read(call), None))
    assert error.reason == "CAMPAIGN_NOT_FOUND"
    again = stub.WatchCampaign(
        watch_pb2.WatchCampaignRequest(campaign_id=campaign.id, resume_token=token),
        metadata=tenant.metadata,
    )
    error = await _error(tenant.call(lambda *_, **__: _read(again), None))
    assert error.reason == "CAMPAIGN_NOT_FOUND"
    hub.cancel()
    await asyncio.gather(hub, return_exceptions=True)


async def _read(call: Any) -> Any:
    async with asyncio.timeout(60):
        return await call.read()


async def test_what_is_told_of_it_later_is_dropped(service: Service) -> None:
    tenant = await service.tenant()
    campaign, other = await service.ready(tenant), await service.ready(tenant)
    await put_in(service, campaign.id, S.COMPLETE)
    await tenant.delete(campaign.id)
    before = await service.dump()
    delivery = Delivery(service.pool)

    def batch() -> pb.ReportBatch:
        part = pb.CampaignReports(
            campaign_id=campaign.id,
            reports=[
                pb.Report(number=1, attempt=1, outcome=pb.OUTCOME_DELIVERED),
                pb.Report(number=2, attempt=1, outcome=pb.OUTCOME_UNKNOWN),
                pb.Report(number=3, attempt=1, outcome=pb.OUTCOME_OPTED_OUT),
            ],
        )
        opt_out = pb.OptOut(
            organisation_id=str(tenant.organisation_id),
            channel=channel_pb2.CHANNEL_SMS,
            action=pb.OPT_OUT_ACTION_ADD,
            campaign_id=campaign.id,
            number=1,
            source="provider",
        )
        failure = pb.CampaignFailureReport(
            campaign_id=campaign.id, run=1, failure_reason=FAILURE_REASON_ACCOUNT_PROBLEM
        )
        begun = pb.BegunAttempts(campaign_id=campaign.id, numbers=[1], attempts=[1])
        ended = pb.EndedInstance(instance_id=str(uuid4()), begun=[begun])
        return pb.ReportBatch(
            sequence=1,
            campaigns=[part],
            opt_outs=[opt_out],
            campaign_failures=[failure],
            ended_instances=[ended],
        )

    await delivery.reports.apply([batch()])
    assert await service.dump() == before
    await clear(service)
    await delivery.reports.apply([batch()])
    assert await knowing(service, campaign.id) == set()
    assert await service.pool.fetchval("SELECT count(*) FROM suppression") == 0
    assert (await tenant.get(other.id)).counts.total == 3
    claimed = await delivery.claims.claim(uuid4(), UUID(campaign.id), 1, 1, 3, 3)
    assert claimed.state == pb.CLAIM_STATE_NOT_RUNNING


async def upload(service: Service, tenant: Tenant, campaign_id: str, data: bytes) -> str:
    stub: Any = contact_pb2_grpc.ContactServiceStub(service.channel)

    async def frames() -> AsyncIterator[contact_pb2.UploadContactsRequest]:
        yield contact_pb2.UploadContactsRequest(
            header=contact_pb2.UploadHeader(
                campaign_id=campaign_id, consent_confirmed=True, file_name="a.csv"
            )
        )
        yield contact_pb2.UploadContactsRequest(chunk=data)

    answer: Any = await tenant.call(stub.UploadContacts, frames())
    return str(answer.id)


async def test_an_upload_that_ends_after_it_stores_nothing(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    stub: Any = contact_pb2_grpc.ContactServiceStub(service.channel)
    call = stub.UploadContacts(metadata=tenant.metadata)
    header = contact_pb2.UploadHeader(
        campaign_id=campaign.id, consent_confirmed=True, file_name="a.csv"
    )
    await call.write(contact_pb2.UploadContactsRequest(header=header))
    await call.write(contact_pb2.UploadContactsRequest(chunk=b"phone,name\n+15005550001,Ann\n"))
    await tenant.delete(campaign.id)
    await call.done_writing()
    error = await _error(tenant.call(lambda *_, **__: _answer(call), None))
    assert error.reason == "CAMPAIGN_NOT_FOUND"
    await clear(service)
    assert await knowing(service, campaign.id) == set()


async def _answer(call: Any) -> Any:
    return await call


@pytest.mark.parametrize(
    "row", ["+15005550001,Ann", "no number,Ann"], ids=["contacts", "problems only"]
)
async def test_an_import_that_ends_after_it_leaves_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    upload_id = await upload(service, tenant, campaign.id, f"phone,name\n{row}\n".encode())
    reached, go_on = asyncio.Event(), asyncio.Event()
    problems_after = stored_contacts.problems_after

    async def held(*arguments: Any) -> Any:
        found = await problems_after(*arguments)
        reached.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(importing, "problems_after", held)
    stub: Any = contact_pb2_grpc.ContactServiceStub(service.channel)
    request = contact_pb2.ImportContactsRequest(campaign_id=campaign.id, upload_id=upload_id)
    call = stub.ImportContacts(request, metadata=tenant.metadata)

    async def last(*_: Any, **__: Any) -> Any:
        return [answer async for answer in call][-1]

    running = asyncio.create_task(tenant.call(last, None))
    async with asyncio.timeout(60):
        await reached.wait()
    await tenant.delete(campaign.id)  # at once, while the import goes on
    assert await service.parts.deletions.sweep() == 0  # its rows are waited for
    assert await service.pool.fetchval("SELECT count(*) FROM deleted_campaign") == 1
    go_on.set()
    error = await _error(running)
    assert error.reason == "CAMPAIGN_NOT_FOUND"
    await clear(service)
    assert await knowing(service, campaign.id) == set()


async def test_batches_are_small_and_go_on_after_a_kill(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await service.tenant()
    campaign, other = await service.ready(tenant, contacts=25), await service.ready(tenant)
    await tenant.delete(campaign.id)
    small = [
        store.LeftRows(rows.table, rows.first, rows.delete, batch_rows_max=10) for rows in LEFT
    ]
    monkeypatch.setattr("services.campaign.deletions.LEFT", small)
    delete_left = store.delete_left
    left: list[int] = []

    async def counted(connection: Any, *arguments: Any) -> int | None:
        if len(left) == 4:
            raise asyncio.CancelledError  # killed in the fifth batch
        before = await connection.fetchval("SELECT count(*) FROM message")
        last = await delete_left(connection, *arguments)
        after = await connection.fetchval("SELECT count(*) FROM message")
        left.append(before - after)
        assert before - after <= 10
        return last

    monkeypatch.setattr(store, "delete_left", counted)
    with pytest.raises(asyncio.CancelledError):
        await Deletions(service.pool, rest_times=0.0).sweep()
    assert left == [10, 10, 5, 0]
    assert await service.pool.fetchval("SELECT count(*) FROM contact") == 25 + 3
    assert await service.pool.fetchval("SELECT count(*) FROM deleted_campaign") == 1
    monkeypatch.setattr(store, "delete_left", delete_left)
    assert await Deletions(service.pool, rest_times=0.0).sweep() == 1
    assert await knowing(service, campaign.id) == set()
    assert (await tenant.get(other.id)).counts.total == 3


async def test_replicas_share_the_work(service: Service) -> None:
    tenant = await service.tenant()
    campaigns = [await service.ready(tenant, contacts=20) for _ in range(6)]
    for campaign in campaigns:
        await tenant.delete(campaign.id)
    replicas = [Deletions(service.pool) for _ in range(3)]
    cleared = await asyncio.gather(*(replica.sweep() for replica in replicas))
    cleared.append(await replicas[0].sweep())  # whoever met another one left it to that one
    assert sum(cleared) == len(campaigns)
    assert await service.pool.fetchval("SELECT count(*) FROM message") == 0


async def test_the_background_task_is_woken(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    running = asyncio.create_task(service.parts.deletions.run())
    await asyncio.sleep(0)
    await tenant.delete(campaign.id)

    async def gone() -> bool:
        return not await knowing(service, campaign.id)

    await eventually(gone)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

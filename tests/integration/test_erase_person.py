"""Erasing a person: nothing of them stays in any table, and runs go on."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.recipients import recipient_hash
from outreach.v1 import (
    campaign_pb2,
    contact_pb2,
    contact_pb2_grpc,
    message_pb2,
    suppression_pb2,
    test_send_pb2,
    test_send_pb2_grpc,
)
from outreach.v1.channel_pb2 import CHANNEL_SMS
from outreach.vocabulary import Channel, MessageStatus
from services.campaign.delivery.look_ups import LookUps
from services.campaign.rpc.fields import Fields, request_key
from services.campaign.usecases import erase_person as usecase
from tests.campaign_service import Service, Tenant, campaign_service, recipient, refused
from tests.delivery_rig import Delivery
from tests.suppression_rig import EMAIL, SMS, add, erase, get, listed, opt_out, remove, told
from tests.waiting import eventually

S = MessageStatus
ERASURE = suppression_pb2.SUPPRESSION_SOURCE_ERASURE


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


async def places(service: Service, *words: str) -> set[str]:
    """Columns of any table, of text, bytes, JSON or lists of these, that have one of the words in any
    case."""
    columns = await service.pool.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type IN ('text', 'bytea', 'jsonb', 'ARRAY', 'character varying')"
    )
    assert len(columns) > 40
    found = set()
    for row in columns:
        table, column = row["table_name"], row["column_name"]
        text = f'"{column}"::text'
        if row["data_type"] == "bytea":
            text = f"encode(\"{column}\", 'escape')"
        for word in words:
            if await service.pool.fetchval(
                f'SELECT EXISTS (SELECT FROM "{table}" WHERE strpos(lower({text}), $1) > 0)',
                word.lower(),
            ):
                found.add(f"{table}.{column}")
    return found


async def check(service: Service, campaign_id: str) -> None:
    """Counts add up with the messages, and the log's last row tells the same."""
    row = await service.pool.fetchrow("SELECT * FROM campaign WHERE id = $1", UUID(campaign_id))
    messages = await service.pool.fetch(
        "SELECT status, count(*) FROM message WHERE campaign_id = $1 GROUP BY 1", UUID(campaign_id)
    )
    counted = {S(message["status"]): message["count"] for message in messages}
    if not row["run"] and S.QUEUED in counted:
        counted[S.WAITING] = counted.pop(S.QUEUED)
    assert {s: row[s.name.lower()] for s in S if row[s.name.lower()]} == counted
    log = await service.pool.fetchrow(
        "SELECT revision, counts FROM change_log WHERE campaign_id = $1 ORDER BY revision DESC LIMIT 1",
        UUID(campaign_id),
    )
    assert log["revision"] == row["revision"]
    assert list(log["counts"]) == [row[s.name.lower()] for s in S]


async def email_campaign(service: Service, tenant: Tenant, name: str) -> campaign_pb2.Campaign:
    content = campaign_pb2.EmailContent(
        subject="Hi {{name}}", html="<p>Hi {{name}} <a href='{{unsubscribe_url}}'>x</a></p>"
    )
    getattr(content, "from").address = "coffee@example.com"
    campaign = await tenant.create(channel=int(EMAIL), sms=None, email=content, name=name)
    await service.put_contacts(
        tenant, campaign.id, [["Ann Person"], ["Zebedee Unmistakable"], ["Cy"]]
    )
    return await tenant.get(campaign.id)


async def test_nothing_of_the_person_is_left_in_any_table(service: Service) -> None:
    tenant = await service.tenant(channels=[SMS, EMAIL])
    address = recipient(2, EMAIL)
    ready = await email_campaign(service, tenant, "ready")
    ran = await email_campaign(service, tenant, "ran")
    await tenant.run(ran.id)
    delivery = Delivery(service.pool)
    await delivery.claims.claim(uuid4(), UUID(ran.id), 1, 1, 3, 3)
    part = pb.CampaignReports(
        campaign_id=ran.id,
        reports=[
            pb.Report(
                number=n, attempt=1, outcome=pb.OUTCOME_DELIVERED, provider_message_id=f"id-of-{n}."
            )
            for n in (1, 2, 3)
        ],
    )
    await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])
    await service.pool.execute(
        "INSERT INTO message_attempt (campaign_id, number, attempt, run, status, update_time,"
        " provider_message_id) VALUES ($1, 2, 1, 1, 8, now(), 'id-of-2.')",
        UUID(ran.id),
    )
    waiting = await tenant.create(channel=int(EMAIL), sms=None, name="waiting")
    await _upload(
        service, tenant, waiting.id, f"email,name\n{address.upper()},Zebedee Unmistakable\n"
    )
    other = await tenant.create(channel=int(EMAIL), sms=None, name="other")
    await _upload(service, tenant, other.id, f"email,name\nx{address},Somebody\n")
    stub: Any = test_send_pb2_grpc.TestSendServiceStub(service.channel)
    service.parts.test_sends._answer_seconds_max = 0.0  # nobody sends
    test_request = test_send_pb2.CreateTestSendRequest(
        campaign_id=ready.id,
        recipients=[address, "keep@example.com"],
        values={"name": "You"},
        request_id=str(uuid4()),
    )
    test = await tenant.call(stub.CreateTestSend, test_request)
    await add(tenant, address, EMAIL, request_id=str(uuid4()))
    await add(tenant, "keep@example.com", EMAIL, request_id=str(uuid4()))
    words = (address, "Zebedee Unmistakable", "id-of-2.")
    assert {
        "contact.recipient",
        "contact.variables",
        "message.provider_message_id",
        "message_attempt.provider_message_id",
        "request_log.response",
        "suppression.recipient",
        "upload.description",
        "upload_chunk.data",
    } <= await places(service, *words)
    hashed = recipient_hash(service.recipient_key, EMAIL, address)

    answer = await erase(tenant, address.title().replace("Example.Com", "example.com"), EMAIL)

    assert (answer.campaigns, answer.contacts, answer.opted_out, answer.under_way) == (2, 2, 1, 0)
    await service.pool.execute("DELETE FROM upload WHERE campaign_id = $1", UUID(other.id))
    assert await places(service, *words) == set()
    # What stays: the keyed hash, and that it is not to be sent to.
    assert (
        await service.pool.fetch(
            "SELECT recipient_hash FROM contact WHERE recipient_hash = $1", hashed
        )
        == []
    )
    found = await get(tenant, address, EMAIL)
    assert (found.recipient, found.source) == ("", ERASURE)
    # Everybody else is as before.
    assert await places(service, "keep@example.com") == {
        "contact.recipient",
        "request_log.response",
        "suppression.recipient",
    }
    assert await service.pool.fetchval("SELECT count(*) FROM contact WHERE recipient <> ''") == 5
    for campaign in (ready, ran):
        await check(service, campaign.id)
    # Nobody sends a test twice that was sent already.
    async with refused("REQUEST_ID_REUSED"):
        await tenant.call(stub.CreateTestSend, test_request)
    shown = await tenant.call(stub.GetTestSend, test_send_pb2.GetTestSendRequest(id=test.id))
    assert [message.recipient for message in shown.messages] == ["", "keep@example.com"]
    assert shown.messages[0].status == message_pb2.MESSAGE_STATUS_OPTED_OUT


async def _upload(service: Service, tenant: Tenant, campaign_id: str, text: str) -> str:
    stub: Any = contact_pb2_grpc.ContactServiceStub(service.channel)

    async def frames() -> AsyncIterator[contact_pb2.UploadContactsRequest]:
        header = contact_pb2.UploadHeader(
            campaign_id=campaign_id, consent_confirmed=True, file_name="a.csv"
        )
        yield contact_pb2.UploadContactsRequest(header=header)
        yield contact_pb2.UploadContactsRequest(chunk=text.encode())

    answer: Any = await tenant.call(stub.UploadContacts, frames())
    return str(answer.id)


async def test_an_upload_without_the_person_stays(service: Service) -> None:
    tenant = await service.tenant()
    campaign, other = await tenant.create(), await tenant.create()
    await _upload(service, tenant, campaign.id, f"phone,name\n{recipient(1)}9,Ann\n")
    kept = await _upload(service, tenant, other.id, f"phone,name\n{recipient(2)},Ben\n")
    await erase(tenant, recipient(1))
    assert await service.pool.fetchval("SELECT count(*) FROM upload") == 2
    await erase(tenant, recipient(2))
    rows = await service.pool.fetch("SELECT id FROM upload")
    assert len(rows) == 1
    assert str(rows[0]["id"]) != kept


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_person_is_found_across_the_pieces_of_a_file(size: int) -> None:
    data = "\ufeffémail;näme\nAda@Example.com;x\n".encode("utf-16-le")
    for sought, expected in (("ada@example.com", True), ("da@example.com", False)):
        search = usecase._Search("utf-16-le", {sought})
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert any(map(search.finds, pieces)) == expected


@pytest.mark.parametrize(
    "written",
    ["José@Bücher.example", "jose\u0301@bu\u0308cher.example", "josé@xn--bcher-kva.example"],
)
async def test_a_person_is_found_in_a_file_however_the_address_is_written(
    service: Service, written: str
) -> None:
    """As an import would take it for the same recipient."""
    tenant = await service.tenant(channels=[EMAIL])
    campaign = await tenant.create(channel=int(EMAIL), sms=None)
    await _upload(service, tenant, campaign.id, f"email,name\n{written},Joe\n")
    await erase(tenant, "José@bücher.example", EMAIL)
    assert await service.pool.fetchval("SELECT count(*) FROM upload") == 0


async def test_erase_during_a_run(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=4)
    await tenant.run(campaign.id)
    delivery = Delivery(service.pool)
    key = UUID(campaign.id)
    claimed = await delivery.claims.claim(uuid4(), key, 1, 1, 2, 2)
    assert [message.number for message in claimed.messages] == [1, 2]
    revision = (await tenant.get(campaign.id)).revision
    wakes = service.parts.suppressions._wakeups
    woken: list[int] = []

    class Told:
        async def campaign_changed(self, _o: UUID, _c: UUID, revision: int) -> None:
            woken.append(revision)

    service.parts.suppressions._wakeups = Told()
    queued = await erase(tenant, recipient(3))
    assert (queued.campaigns, queued.opted_out, queued.under_way) == (1, 1, 0)
    under_way = await erase(tenant, recipient(1))
    assert (under_way.campaigns, under_way.opted_out, under_way.under_way) == (1, 0, 1)
    service.parts.suppressions._wakeups = wakes
    assert woken == [revision + 1, revision + 2]
    log = await service.pool.fetch(
        "SELECT numbers, statuses FROM change_log WHERE campaign_id = $1 AND revision > $2"
        " ORDER BY revision",
        key,
        revision,
    )
    told_of = [(list(row["numbers"]), list(row["statuses"])) for row in log]
    assert told_of == [([3], [S.OPTED_OUT]), ([], [])], "one message's status changed"
    counts = (await tenant.get(campaign.id)).counts
    assert (counts.queued, counts.sending, counts.opted_out, counts.total) == (1, 2, 1, 4)
    # What is under way goes on, and is recorded.
    accepted = pb.Report(number=1, attempt=1, outcome=pb.OUTCOME_ACCEPTED)
    delivered = [pb.Report(number=n, attempt=1, outcome=pb.OUTCOME_DELIVERED) for n in (1, 2)]
    part = pb.CampaignReports(campaign_id=campaign.id, reports=[accepted, *delivered])
    await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])
    await erase(tenant, recipient(4))  # the last one: with it the run is over
    done = await tenant.get(campaign.id)
    assert done.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE
    assert (done.counts.delivered, done.counts.opted_out) == (2, 2)
    assert done.HasField("end_time")
    await check(service, campaign.id)


async def test_an_erasure_in_a_campaign_that_has_ended_is_a_revision(service: Service) -> None:
    """So that an export that was cut before is not gone on with after: its rows are other ones."""
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    await tenant.run(campaign.id)
    delivery = Delivery(service.pool)
    await delivery.claims.claim(uuid4(), UUID(campaign.id), 1, 1, 3, 3)
    delivered = [pb.Report(number=n, attempt=1, outcome=pb.OUTCOME_DELIVERED) for n in (1, 2, 3)]
    part = pb.CampaignReports(campaign_id=campaign.id, reports=delivered)
    await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])
    before = await tenant.get(campaign.id)
    assert before.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE
    await erase(tenant, recipient(2))
    after = await tenant.get(campaign.id)
    assert after.revision == before.revision + 1
    assert (after.status, after.counts, after.end_time) == (
        before.status,
        before.counts,
        before.end_time,
    )
    await check(service, campaign.id)


async def test_what_is_handed_back_of_an_erased_person_is_not_sent(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=2)
    await tenant.run(campaign.id)
    delivery, key = Delivery(service.pool), UUID(campaign.id)
    await delivery.claims.claim(uuid4(), key, 1, 1, 2, 2)
    await erase(tenant, recipient(1))
    await remove(tenant, recipient(1))  # even when an operator takes the hash off the list
    part = pb.CampaignReports(
        campaign_id=campaign.id,
        reports=[pb.Report(number=n, attempt=1, outcome=pb.OUTCOME_HANDED_BACK) for n in (1, 2)],
    )
    await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])
    claimed = await delivery.claims.claim(uuid4(), key, 1, 1, 2, 2)
    assert [message.number for message in claimed.messages] == [2]
    assert (await tenant.get(campaign.id)).counts.opted_out == 1
    await check(service, campaign.id)


@pytest.mark.parametrize("channel", [SMS, EMAIL])
async def test_an_erased_person_is_not_looked_up(service: Service, channel: Channel) -> None:
    tenant = await service.tenant(channels=[SMS, EMAIL])
    if channel is SMS:
        campaign = await service.ready(tenant, contacts=3)
    else:
        campaign = await email_campaign(service, tenant, "email")
    await tenant.run(campaign.id)
    delivery, key = Delivery(service.pool), UUID(campaign.id)
    await delivery.claims.claim(uuid4(), key, 1, 1, 3, 3)
    part = pb.CampaignReports(
        campaign_id=campaign.id,
        reports=[pb.Report(number=n, attempt=1, outcome=pb.OUTCOME_UNKNOWN) for n in (1, 2, 3)],
    )
    await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])
    for number in (1, 2):
        await erase(tenant, recipient(number, channel), channel)
    due = await LookUps(service.pool, look_up_after_seconds=0.0).lease(key, 10)
    assert [attempt.message.recipient for attempt in due.attempts] == [recipient(3, channel)]


async def test_what_is_told_of_an_erased_contact_suppresses_nobody(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    await tenant.run(campaign.id)
    delivery = Delivery(service.pool)
    await delivery.claims.claim(uuid4(), UUID(campaign.id), 1, 1, 3, 3)
    await erase(tenant, recipient(1))
    part = pb.CampaignReports(
        campaign_id=campaign.id,
        reports=[pb.Report(number=1, attempt=1, outcome=pb.OUTCOME_OPTED_OUT)],
    )
    await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])
    await told(service, opt_out(tenant, time.time(), campaign_id=campaign.id, number=1))
    rows = await service.pool.fetch("SELECT recipient_hash FROM suppression")
    assert [row["recipient_hash"] for row in rows] == [
        recipient_hash(service.recipient_key, SMS, recipient(1))
    ]
    assert (await tenant.get(campaign.id)).counts.opted_out == 1


async def test_a_stop_of_an_erased_person_tells_nothing_new_and_start_ends_it(
    service: Service,
) -> None:
    tenant, now = await service.tenant(), time.time()
    await erase(tenant, recipient(1))
    await told(service, opt_out(tenant, now + 10, recipient=recipient(1)))
    found = await get(tenant, recipient(1))
    assert (found.recipient, found.source) == ("", ERASURE)
    await told(
        service,
        opt_out(tenant, now + 20, recipient=recipient(1), action=pb.OPT_OUT_ACTION_REMOVE),
    )
    assert await listed(tenant) == []
    await told(service, opt_out(tenant, now + 30, recipient=recipient(1)))
    assert (await get(tenant, recipient(1))).recipient == recipient(1)


async def test_before_a_run_the_message_is_opted_out_and_the_status_stays(
    service: Service,
) -> None:
    tenant = await service.tenant()
    ready = await service.ready(tenant, contacts=2)
    created = await service.ready(tenant, contacts=2, body="Hello {{unknown}}")
    assert created.status == campaign_pb2.CAMPAIGN_STATUS_CREATED
    answer = await erase(tenant, recipient(1))
    assert (answer.campaigns, answer.contacts, answer.opted_out) == (2, 2, 2)
    for campaign in (ready, created):
        now = await tenant.get(campaign.id)
        assert now.status == campaign.status
        assert not now.HasField("end_time")
        assert (now.counts.waiting, now.counts.opted_out, now.counts.total) == (1, 1, 2)
        await check(service, campaign.id)
    running = await tenant.run(ready.id)
    assert (running.counts.queued, running.counts.opted_out) == (1, 1)
    estimate = await tenant.call(
        tenant.campaigns.EstimateCampaign, campaign_pb2.EstimateCampaignRequest(id=ready.id)
    )
    assert (estimate.to_send, estimate.suppressed) == (1, 1)


async def test_a_campaign_of_erased_people_only_can_not_be_run(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=1)
    await erase(tenant, recipient(1))
    now = await tenant.get(campaign.id)
    assert campaign_pb2.CAMPAIGN_ACTION_RUN not in now.allowed_actions
    async with refused("ACTION_NOT_ALLOWED") as caught:
        await tenant.run(campaign.id)
    assert caught["error"].metadata["why"] == "CONTACTS_MISSING"
    await tenant.delete(campaign.id)


async def test_again_and_of_somebody_unknown(service: Service) -> None:
    tenant, stranger = await service.tenant(), await service.tenant()
    await service.ready(tenant)
    theirs = await service.ready(stranger)
    request_id = str(uuid4())
    first = await erase(tenant, recipient(1), request_id=request_id)
    assert first.contacts == 1
    assert await erase(tenant, recipient(1), request_id=request_id) == first
    assert (await erase(tenant, recipient(1))).contacts == 0
    async with refused("REQUEST_ID_REUSED"):
        await erase(tenant, recipient(2), request_id=request_id)
    assert (
        await service.pool.fetchval(
            "SELECT count(*) FROM contact WHERE recipient = $1", recipient(2)
        )
        == 2
    ), "who reuses an id erases nobody"
    nobody = await erase(tenant, "+15005559999")
    assert nobody == suppression_pb2.ErasePersonResponse()
    assert (await get(tenant, "+15005559999")).source == ERASURE
    # Another organisation's contacts and list are its own.
    assert await listed(stranger) == []
    message = await stranger.call(
        stranger.messages.GetMessage,
        message_pb2.GetMessageRequest(campaign_id=theirs.id, number=1),
    )
    assert message.recipient == recipient(1)
    # The other channel is another list.
    async with refused("INVALID_REQUEST", ("recipient", "FIELD_INVALID")):
        await erase(tenant, recipient(1), EMAIL)


async def test_a_person_in_many_rows_goes_batch_by_batch(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.campaign.store.erasures.BATCH_CONTACTS_MAX", 3)
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=10)
    await service.pool.execute(
        "UPDATE contact SET recipient = $1, recipient_hash = $2 WHERE number > 2",
        recipient(1),
        recipient_hash(service.recipient_key, SMS, recipient(1)),
    )
    await tenant.run(campaign.id)
    answer = await erase(tenant, recipient(1))
    assert (answer.campaigns, answer.contacts, answer.opted_out) == (1, 9, 9)
    log = await service.pool.fetch("SELECT numbers FROM change_log ORDER BY revision")
    assert [len(row["numbers"]) for row in log][-3:] == [3, 3, 3]
    await check(service, campaign.id)


async def test_beside_claims_and_reports_every_message_ends_once(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=60)
    await tenant.run(campaign.id)
    delivery, key = Delivery(service.pool), UUID(campaign.id)

    async def send() -> None:
        while True:
            claimed = await delivery.claims.claim(uuid4(), key, 1, 1, 60, 3)
            if not claimed.messages and claimed.state != pb.CLAIM_STATE_OPEN:
                return
            part = pb.CampaignReports(
                campaign_id=campaign.id,
                reports=[
                    pb.Report(number=m.number, attempt=m.attempt, outcome=pb.OUTCOME_DELIVERED)
                    for m in claimed.messages
                ],
            )
            assert all(message.recipient for message in claimed.messages)
            await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])

    async def erase_some() -> int:
        answers = [await erase(tenant, recipient(number)) for number in range(60, 0, -3)]
        return sum(answer.opted_out for answer in answers)

    _, _, opted_out = await asyncio.gather(send(), send(), erase_some())
    await send()
    done = await tenant.get(campaign.id)
    assert done.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE
    assert done.counts.delivered + done.counts.opted_out == 60
    assert opted_out <= done.counts.opted_out <= 20
    await check(service, campaign.id)
    assert await service.pool.fetchval("SELECT count(*) FROM contact WHERE recipient = ''") == 20


async def test_an_import_under_way_is_waited_for(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    await _upload(service, tenant, campaign.id, f"phone,name\n{recipient(1)},Ann\n")
    importing = await service.pool.acquire()
    transaction = importing.transaction()
    await transaction.start()
    await importing.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('contacts ' || $1::uuid, 0))",
        UUID(campaign.id),
    )
    erasing = asyncio.create_task(erase(tenant, recipient(1)))

    async def waits() -> bool:
        found: bool = await service.pool.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
        )
        return found

    await eventually(waits)
    assert not erasing.done()
    # The import ends: its file is gone, its contacts are here.
    await importing.execute(
        "INSERT INTO contact VALUES ($1, 1, $2, $3, '{Ann}')",
        UUID(campaign.id),
        recipient(1),
        recipient_hash(service.recipient_key, SMS, recipient(1)),
    )
    await importing.execute(
        "INSERT INTO message (campaign_id, number, status) VALUES ($1, 1, 2)", UUID(campaign.id)
    )
    await importing.execute(
        "UPDATE campaign SET waiting = 1, total = 1 WHERE id = $1", UUID(campaign.id)
    )
    await importing.execute("DELETE FROM upload")
    await transaction.commit()
    await service.pool.release(importing)
    answer = await erasing
    assert (answer.contacts, answer.opted_out) == (1, 1)
    assert await places(service, recipient(1), "Ann") == set()


async def test_the_log_of_requests_has_no_hash_to_try_numbers_on(service: Service) -> None:
    tenant = await service.tenant()
    request_id = str(uuid4())
    await erase(tenant, recipient(1), request_id=request_id)
    row = await service.pool.fetchrow("SELECT method, request_hash FROM request_log")
    plain = suppression_pb2.ErasePersonRequest(channel=CHANNEL_SMS, recipient=recipient(1))
    caller: Any = type("Caller", (), {"organisation_id": tenant.organisation_id})()
    key = request_key(Fields(), caller, "ErasePerson", plain, request_id)
    assert key is not None
    assert row["request_hash"] != key.hash

"""The list of recipients that opted out: pages, adding, removing, and what senders tell meanwhile."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.recipients import recipient_hash
from outreach.v1 import suppression_pb2
from outreach.v1.channel_pb2 import CHANNEL_SMS
from outreach.vocabulary import Channel
from services.campaign.store.suppressions import QUERIES
from tests.campaign_service import Service, campaign_service, recipient, refused
from tests.delivery_rig import Delivery
from tests.suppression_rig import EMAIL, SMS, add, get, listed, opt_out, page, remove, told

REMOVE = pb.OPT_OUT_ACTION_REMOVE
NUMBER = "+15005550009"
ADDRESS = "Ada.Lovelace@Example.com"


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


def source(suppression: suppression_pb2.Suppression) -> str:
    name = suppression_pb2.SuppressionSource.Name(suppression.source)
    return name.removeprefix("SUPPRESSION_SOURCE_")


async def test_add_get_and_remove(service: Service) -> None:
    tenant, stranger = await service.tenant(), await service.tenant()
    began = time.time()
    added = await add(tenant, NUMBER)
    assert (added.channel, added.recipient, source(added)) == (CHANNEL_SMS, NUMBER, "OPERATOR")
    assert began - 5 < added.event_time.seconds < time.time() + 5
    assert await get(tenant, NUMBER) == added
    assert await listed(tenant) == [added]
    assert await listed(stranger) == []
    async with refused("SUPPRESSION_NOT_FOUND", ("recipient", "SUPPRESSION_NOT_FOUND")) as caught:
        await get(stranger, NUMBER)
    assert NUMBER not in str(caught["error"])
    async with refused("SUPPRESSION_NOT_FOUND", ("recipient", "SUPPRESSION_NOT_FOUND")):
        await remove(stranger, NUMBER)
    await remove(tenant, NUMBER)
    assert await listed(tenant) == []
    async with refused("SUPPRESSION_NOT_FOUND", ("recipient", "SUPPRESSION_NOT_FOUND")):
        await get(tenant, NUMBER)
    async with refused("SUPPRESSION_NOT_FOUND", ("recipient", "SUPPRESSION_NOT_FOUND")):
        await remove(tenant, NUMBER)
    # What is not on the list is remembered by its hash and time only.
    row = await service.pool.fetchrow("SELECT suppressed, recipient FROM suppression")
    assert tuple(row) == (False, None)


async def test_twice_it_stays_as_it_was(service: Service) -> None:
    tenant = await service.tenant()
    first = await add(tenant, ADDRESS, EMAIL)
    assert await add(tenant, ADDRESS.upper().replace("EXAMPLE.COM", "example.com"), EMAIL) == first
    await told(service, opt_out(tenant, 1_000, EMAIL, recipient=ADDRESS, source="spam_report"))
    assert await listed(tenant) == [first], "an older event changes nothing"
    await told(service, opt_out(tenant, time.time() + 60, EMAIL, recipient=ADDRESS, source="link"))
    later = await get(tenant, ADDRESS, EMAIL)
    assert (source(later), later.recipient) == ("LINK", ADDRESS)
    assert await add(tenant, ADDRESS, EMAIL) == later


async def test_a_request_id_makes_it_repeatable(service: Service) -> None:
    tenant = await service.tenant()
    request_id, other_id = str(uuid4()), str(uuid4())
    added = await add(tenant, NUMBER, request_id=request_id)
    await remove(tenant, NUMBER, request_id=other_id)
    await remove(tenant, NUMBER, request_id=other_id)
    assert await add(tenant, NUMBER, request_id=request_id) == added  # the kept answer
    assert await listed(tenant) == []
    async with refused("REQUEST_ID_REUSED"):
        await add(tenant, "+15005550008", request_id=request_id)


@pytest.mark.parametrize(
    ("channel", "given"),
    [
        (SMS, "15005550009"),
        (SMS, "+1 500 555 0009"),
        (SMS, ADDRESS),
        (SMS, "+1"),
        (EMAIL, NUMBER),
        (EMAIL, "Ada <ada@example.com>"),
        (EMAIL, "ada@"),
        (EMAIL, "ada@example.com\n"),
    ],
)
async def test_what_is_no_recipient_is_refused(
    service: Service, channel: Channel, given: str
) -> None:
    tenant = await service.tenant()
    for call in (add, get, remove):
        async with refused("INVALID_REQUEST", ("recipient", "FIELD_INVALID")):
            await call(tenant, given, channel)
    assert await listed(tenant) == []


async def test_every_fault_is_told(service: Service) -> None:
    tenant = await service.tenant()
    request = suppression_pb2.CreateSuppressionRequest(request_id="x")
    async with refused(
        "INVALID_REQUEST",
        ("channel", "FIELD_REQUIRED"),
        ("recipient", "FIELD_REQUIRED"),
        ("request_id", "FIELD_INVALID"),
    ):
        await tenant.call(tenant.suppressions.CreateSuppression, request)
    for long in ("+1" + "5" * 400, "a\0@example.com"):
        for call in (add, get, remove):
            async with refused(
                "INVALID_REQUEST",
                ("recipient", "FIELD_TOO_LONG" if len(long) > 320 else "FIELD_INVALID"),
            ):
                await call(tenant, long, EMAIL)
    async with refused("INVALID_REQUEST", ("page_size", "FIELD_OUT_OF_RANGE")):
        await page(tenant, page_size=1_001)
    request_of_channel = suppression_pb2.ListSuppressionsRequest(channel=7)  # type: ignore[arg-type] # on purpose
    async with refused("INVALID_REQUEST", ("channel", "FIELD_INVALID")):
        await tenant.call(tenant.suppressions.ListSuppressions, request_of_channel)


async def test_pages_give_each_once_newest_first(service: Service) -> None:
    tenant, stranger = await service.tenant(), await service.tenant()
    # Many at the same time, as an import makes them; also some that opted in again.
    for organisation_id in (tenant.organisation_id, stranger.organisation_id):
        await service.pool.execute(
            "INSERT INTO suppression (organisation_id, channel, recipient_hash, suppressed, source, event_time,"
            " recipient) SELECT $1, 1 + n % 2, decode(md5(n::text), 'hex'), n % 10 <> 0, 'operator',"
            " to_timestamp(1000 + n / 7), 'r' || n FROM generate_series(1, 100) AS n",
            organisation_id,
        )
    for channel in (0, SMS, EMAIL):
        rows = await service.pool.fetch(
            "SELECT recipient FROM suppression WHERE organisation_id = $1 AND suppressed"
            " AND ($2 = 0 OR channel = $2) ORDER BY event_time DESC, channel, recipient_hash",
            tenant.organisation_id,
            channel,
        )
        expected = [row["recipient"] for row in rows]
        assert len(expected) == {0: 90, SMS: 40, EMAIL: 50}[channel]
        for size in (1, 7, 50, 1_000):
            found = await listed(tenant, channel=channel, page_size=size)
            assert [each.recipient for each in found] == expected


async def test_a_token_is_of_its_list(service: Service) -> None:
    tenant, stranger = await service.tenant(), await service.tenant()
    for number in range(1, 4):
        await add(tenant, recipient(number))
    _, token = await page(tenant, page_size=1)
    assert token
    for other, fields in ((tenant, {"channel": int(SMS)}), (stranger, {})):
        async with refused("PAGE_TOKEN_INVALID"):
            await page(other, page_token=token, **fields)
    async with refused("PAGE_TOKEN_INVALID"):
        await page(tenant, page_token=token[:-2])
    # Another page size is no other list; one that came meanwhile is before, and not told.
    await add(tenant, recipient(9))
    found, _ = await page(tenant, page_token=token, page_size=10)
    assert [each.recipient for each in found] == [recipient(2), recipient(1)]


async def test_of_start_and_stop_the_latest_counts_beside_an_operator(service: Service) -> None:
    tenant, now = await service.tenant(), time.time()
    await told(service, opt_out(tenant, now - 100, recipient=NUMBER))
    await remove(tenant, NUMBER)
    await told(service, opt_out(tenant, now - 50, recipient=NUMBER))
    assert await listed(tenant) == [], "a STOP from before the operator removed it comes late"
    await told(service, opt_out(tenant, now + 50, recipient=NUMBER))
    assert [source(each) for each in await listed(tenant)] == ["REPLY"]
    await told(service, opt_out(tenant, now + 40, recipient=NUMBER, action=REMOVE))
    assert len(await listed(tenant)) == 1, "a START from before that STOP comes late"
    await told(service, opt_out(tenant, now + 60, recipient=NUMBER, action=REMOVE))
    assert await listed(tenant) == []
    # By now, and not before the START: the order stays.
    again = await add(tenant, NUMBER)
    assert again.event_time.seconds >= int(now + 60)
    await told(service, opt_out(tenant, now + 55, recipient=NUMBER, action=REMOVE))
    assert await listed(tenant) == [again]


async def test_the_recipient_is_shown_whatever_told_it(service: Service) -> None:
    tenant, stranger = await service.tenant(), await service.tenant()
    campaign = await tenant.create()
    await service.put_contacts(tenant, campaign.id, [["a"], ["b"], ["c"]])
    key = service.recipient_key
    now = time.time()
    of_message: dict[str, Any] = {"campaign_id": campaign.id, "number": 2, "source": "provider"}
    await told(
        service,
        opt_out(tenant, now + 1, recipient="+15005559999"),
        opt_out(tenant, now + 2, **of_message),
        opt_out(
            tenant, now + 3, recipient_hash=recipient_hash(key, SMS, recipient(3)), source="link"
        ),
        # Nobody's contact: only the hash is known.
        opt_out(tenant, now + 4, recipient_hash=b"\1" * 16, source="link"),
        # A contact of another organisation is nothing to this one.
        opt_out(
            stranger, now + 5, recipient_hash=recipient_hash(key, SMS, recipient(1)), source="link"
        ),
    )
    assert [(each.recipient, source(each)) for each in await listed(tenant)] == [
        ("", "LINK"),
        (recipient(3), "LINK"),
        (recipient(2), "PROVIDER"),
        ("+15005559999", "REPLY"),
    ]
    assert [each.recipient for each in await listed(stranger)] == [""]
    # It is found by who asks with the address, though it is not kept.
    assert source(await get(stranger, recipient(1))) == "LINK"


async def test_a_refusal_of_the_provider_is_shown_with_its_recipient(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    await tenant.run(campaign.id)
    delivery = Delivery(service.pool)
    await delivery.claims.claim(uuid4(), UUID(campaign.id), 1, 1, 3, 3)
    part = pb.CampaignReports(
        campaign_id=campaign.id,
        reports=[pb.Report(number=2, attempt=1, outcome=pb.OUTCOME_OPTED_OUT)],
    )
    await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])
    found = await listed(tenant)
    assert [(each.recipient, source(each)) for each in found] == [(recipient(2), "PROVIDER")]


@pytest.mark.parametrize("given", ["+1500\0", "x" * 400])
async def test_a_recipient_that_can_not_be_stored_is_kept_by_its_hash(
    service: Service, given: str
) -> None:
    tenant = await service.tenant()
    await told(service, opt_out(tenant, 1_000, recipient=given))
    assert [each.recipient for each in await listed(tenant)] == [""]


async def test_an_opt_out_in_mid_run_counts_and_removing_it_too(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=4)
    await tenant.run(campaign.id)
    claims = Delivery(service.pool).claims
    first = await claims.claim(uuid4(), UUID(campaign.id), 1, 1, 4, 1)
    assert [message.number for message in first.messages] == [1]
    for number in (2, 3):
        await add(tenant, recipient(number))
    await remove(tenant, recipient(3))
    rest = await claims.claim(uuid4(), UUID(campaign.id), 1, 1, 4, 4)
    assert [message.number for message in rest.messages] == [3, 4]
    counts = (await tenant.get(campaign.id)).counts
    assert (counts.opted_out, counts.sending, counts.total) == (1, 3, 4)


async def test_a_page_of_many_of_one_time_is_read_along_the_index(service: Service) -> None:
    tenant = await service.tenant()
    await service.pool.execute(
        "INSERT INTO suppression (organisation_id, channel, recipient_hash, suppressed, source, event_time)"
        " SELECT $1, 1, decode(md5(n::text), 'hex'), true, 'operator', '2026-01-01'"
        " FROM generate_series(1, 50000) AS n",
        tenant.organisation_id,
    )
    await service.pool.execute("VACUUM ANALYZE suppression")
    middle = await service.pool.fetchrow(
        "SELECT event_time, recipient_hash FROM suppression ORDER BY recipient_hash OFFSET 40000 LIMIT 1"
    )
    for position in ((None, 0, b""), (middle["event_time"], 1, middle["recipient_hash"])):
        plan = orjson.loads(
            await service.pool.fetchval(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES['list_suppressions']}",
                tenant.organisation_id,
                None,
                *position,
                101,
            )
        )
        assert _rows_looked_at(plan[0]["Plan"]) < 500


def _rows_looked_at(node: dict[str, Any]) -> float:
    """What the scans of a plan gave and threw away."""
    below: float = sum(map(_rows_looked_at, node.get("Plans", [])))
    if "Scan" not in node["Node Type"] or node["Node Type"] == "Subquery Scan":
        return below
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return below + float((node["Actual Rows"] + removed) * node["Actual Loops"])

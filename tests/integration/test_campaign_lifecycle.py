"""Campaigns created, read, listed and changed through gRPC; bad input leaves data as it was."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.v1 import campaign_pb2, channel_pb2
from outreach.vocabulary import Channel
from tests.campaign_service import Service, campaign_service, refused

CREATED, READY = campaign_pb2.CAMPAIGN_STATUS_CREATED, campaign_pb2.CAMPAIGN_STATUS_READY
_SMS = campaign_pb2.SmsContent


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


def _create(**fields: Any) -> campaign_pb2.CreateCampaignRequest:
    campaign = {
        "name": "Autumn",
        "channel": channel_pb2.CHANNEL_SMS,
        "sms": _SMS(body="Hello {{name}}"),
    }
    return campaign_pb2.CreateCampaignRequest(
        campaign=campaign_pb2.Campaign(**{**campaign, **fields})
    )


async def test_a_campaign_is_created_and_read_back(service: Service) -> None:
    tenant = await service.tenant()
    created = await tenant.create(
        name="  Autumn ",
        description="For all\nof them",
        missing_variable_policy=campaign_pb2.MISSING_VARIABLE_POLICY_SKIP,
        sms=_SMS(
            body="Hello {{name}}",
            sender=campaign_pb2.SmsSender(messaging_service_sid="MG" + "a" * 32),
            validity_period=Duration(seconds=600),
        ),
    )
    assert (created.name, created.status, created.run) == ("Autumn", CREATED, 0)
    assert created.sms.sender.messaging_service_sid == "MG" + "a" * 32
    assert created.sms.validity_period.seconds == 600
    assert created.counts == campaign_pb2.StatusCounts()
    assert not created.HasField("contacts")
    assert not created.HasField("start_time")
    assert list(created.template_problems) == []
    assert {campaign_pb2.CampaignAction.Name(a) for a in created.allowed_actions} == {
        f"CAMPAIGN_ACTION_{name}" for name in ("UPDATE", "IMPORT_CONTACTS", "DELETE", "EXPORT")
    }
    assert await tenant.get(created.id) == created


async def test_a_draft_may_be_unfinished_and_says_why(service: Service) -> None:
    tenant = await service.tenant()
    created = await tenant.create(body="")
    assert [(p.field, p.reason) for p in created.template_problems] == [
        ("sms.body", "TEMPLATE_EMPTY")
    ]
    await service.put_contacts(tenant, created.id, [["Ada"]])
    assert (await tenant.get(created.id)).status == CREATED


async def test_validate_only_stores_nothing(service: Service) -> None:
    tenant = await service.tenant()
    before = await service.dump()
    request = _create()
    request.validate_only = True
    answer = await tenant.call(tenant.campaigns.CreateCampaign, request)
    assert (answer.id, answer.etag, answer.status) == ("", "", CREATED)
    assert await service.dump() == before
    campaign = await tenant.create()
    before = await service.dump()
    update = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=campaign.id, name="New"),
        update_mask=FieldMask(paths=["name"]),
        validate_only=True,
    )
    answer = await tenant.call(tenant.campaigns.UpdateCampaign, update)
    assert answer.name == "New"
    assert await service.dump() == before


@pytest.mark.parametrize(
    ("request_", "violations"),
    [
        (_create(name=""), [("campaign.name", "FIELD_REQUIRED")]),
        (_create(name="   "), [("campaign.name", "FIELD_REQUIRED")]),
        (_create(name="n" * 201), [("campaign.name", "FIELD_TOO_LONG")]),
        (_create(channel=0), [("campaign.channel", "FIELD_REQUIRED")]),
        (_create(channel=7), [("campaign.channel", "FIELD_INVALID")]),
        (
            _create(channel=channel_pb2.CHANNEL_EMAIL),
            [("campaign.sms", "FIELD_INVALID")],
        ),
        (
            _create(sms=None, email=campaign_pb2.EmailContent(subject="Hi")),
            [("campaign.email", "FIELD_INVALID")],
        ),
        (_create(sms=_SMS(body="x" * 1601)), [("campaign.sms.body", "TEMPLATE_TOO_LONG")]),
        (_create(sms=_SMS(body="x\0")), [("campaign.sms.body", "TEMPLATE_MALFORMED")]),
        (
            _create(missing_variable_policy=9),
            [("campaign.missing_variable_policy", "FIELD_INVALID")],
        ),
        (
            campaign_pb2.CreateCampaignRequest(
                campaign=_create(name="").campaign, request_id="not-a-uuid"
            ),
            [("request_id", "FIELD_INVALID"), ("campaign.name", "FIELD_REQUIRED")],
        ),
    ],
)
async def test_a_bad_campaign_is_refused_by_field(
    service: Service,
    request_: campaign_pb2.CreateCampaignRequest,
    violations: list[tuple[str, str]],
) -> None:
    tenant = await service.tenant()
    before = await service.dump()
    async with refused("INVALID_REQUEST", *violations):
        await tenant.call(tenant.campaigns.CreateCampaign, request_)
    assert await service.dump() == before


async def test_a_channel_without_credentials_is_refused(service: Service) -> None:
    tenant = await service.tenant(channels=())
    async with refused("CHANNEL_NOT_CONFIGURED"):
        await tenant.create()
    assert (await service.dump())["campaign"] == []


async def test_an_email_campaign_is_kept_once_the_channel_is_configured(service: Service) -> None:
    tenant = await service.tenant()
    email = campaign_pb2.EmailContent(subject="Hi {{name}}", html="<p>Hi</p>")
    request = _create(sms=None, email=email, channel=channel_pb2.CHANNEL_EMAIL)
    async with refused("CHANNEL_NOT_CONFIGURED"):
        await tenant.call(tenant.campaigns.CreateCampaign, request)
    await service.configure(tenant.organisation_id, Channel.EMAIL)
    created = await tenant.call(tenant.campaigns.CreateCampaign, request)
    assert created.email == email
    assert [p.field for p in created.template_problems] == ["email.html", "email.from"]


@pytest.mark.parametrize("id_", ["", "nonsense", "{018f4e6a-7c1b-7d3e-9a55-0123456789ab}", "1"])
async def test_a_malformed_id_is_refused_everywhere(service: Service, id_: str) -> None:
    tenant = await service.tenant()
    reason = "FIELD_INVALID" if id_ else "FIELD_REQUIRED"
    stub = tenant.campaigns
    for method, request in (
        (stub.GetCampaign, campaign_pb2.GetCampaignRequest(id=id_)),
        (stub.RunCampaign, campaign_pb2.RunCampaignRequest(id=id_)),
        (stub.PreviewCampaign, campaign_pb2.PreviewCampaignRequest(id=id_)),
        (stub.EstimateCampaign, campaign_pb2.EstimateCampaignRequest(id=id_)),
    ):
        async with refused("INVALID_REQUEST", ("id", reason)):
            await tenant.call(method, request)
    update = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=id_), update_mask=FieldMask(paths=["name"])
    )
    async with refused("INVALID_REQUEST", ("campaign.id", reason)):
        await tenant.call(stub.UpdateCampaign, update)


async def test_an_unknown_id_is_not_found(service: Service) -> None:
    tenant = await service.tenant()
    async with refused("CAMPAIGN_NOT_FOUND"):
        await tenant.get(str(uuid4()))


async def _update(tenant: Any, campaign_id: str, paths: list[str], **fields: Any) -> Any:
    request = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=campaign_id, **fields),
        update_mask=FieldMask(paths=paths),
    )
    return await tenant.call(tenant.campaigns.UpdateCampaign, request)


async def test_an_update_changes_the_named_fields_and_the_etag(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    changed = await _update(
        tenant, campaign.id, ["name", "sms.body"], name="B", description="no", sms=_SMS(body="Hi")
    )
    assert (changed.name, changed.description, changed.sms.body) == ("B", "", "Hi")
    assert changed.etag != campaign.etag
    assert await tenant.get(campaign.id) == changed


async def test_updates_at_once_lose_nothing(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    await asyncio.gather(
        *(
            _update(tenant, campaign.id, [path], **fields)
            for path, fields in (
                ("name", {"name": "B"}),
                ("description", {"description": "new"}),
                ("sms.body", {"sms": _SMS(body="new")}),
                ("sms.validity_period", {"sms": _SMS(validity_period=Duration(seconds=9))}),
                ("sms.sender", {"sms": _SMS(sender=campaign_pb2.SmsSender(**{"from": "Us"}))}),
            )
        )
    )
    changed = await tenant.get(campaign.id)
    assert (changed.name, changed.description, changed.sms.body) == ("B", "new", "new")
    assert changed.sms.validity_period.seconds == 9
    assert changed.sms.sender.WhichOneof("sender") == "from"
    assert await service.pool.fetchval("SELECT version FROM campaign") == 6


async def test_the_status_follows_the_template(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    assert (campaign.status, campaign.counts.waiting) == (READY, 3)
    unknown = await _update(tenant, campaign.id, ["sms"], sms=_SMS(body="Hi {{city}}"))
    assert unknown.status == CREATED
    assert [(p.field, p.reason) for p in unknown.template_problems] == [
        ("sms.body", "TEMPLATE_UNKNOWN_PLACEHOLDER")
    ]
    assert unknown.revision == campaign.revision + 1
    again = await _update(tenant, campaign.id, ["sms"], sms=_SMS(body="Hi {{name}}"))
    assert (again.status, list(again.template_problems)) == (READY, [])
    log = await service.pool.fetch(
        "SELECT campaign_status, counts, numbers FROM change_log ORDER BY revision"
    )
    assert [row["campaign_status"] for row in log] == [2, 1, 2]
    assert all(row["counts"][0] == 3 and row["numbers"] == [] for row in log)


async def test_a_stale_etag_changes_nothing(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    changed = await _update(tenant, campaign.id, ["name"], name="B", etag=campaign.etag)
    before = await service.dump()
    async with refused("ETAG_MISMATCH"):
        await _update(tenant, campaign.id, ["name"], name="C", etag=campaign.etag)
    async with refused("ETAG_MISMATCH"):
        await tenant.run(campaign.id, etag=campaign.etag)
    assert await service.dump() == before
    assert (await tenant.run(campaign.id, etag=changed.etag)).run == 1


@pytest.mark.parametrize(
    ("paths", "fields", "violations"),
    [
        ([], {}, [("update_mask", "FIELD_REQUIRED")]),
        (["channel"], {}, [("update_mask", "FIELD_IMMUTABLE")]),
        (["columns"], {}, [("update_mask", "FIELD_IMMUTABLE")]),
        (["sms.nonsense"], {}, [("update_mask", "FIELD_UNKNOWN")]),
        (["name"], {"name": ""}, [("campaign.name", "FIELD_REQUIRED")]),
        (["email.subject"], {}, [("campaign.email", "FIELD_INVALID")]),
        (
            ["sms.body"],
            {"sms": _SMS(body="x" * 1601)},
            [("campaign.sms.body", "TEMPLATE_TOO_LONG")],
        ),
    ],
)
async def test_a_bad_update_is_refused_by_field(
    service: Service, paths: list[str], fields: Any, violations: list[tuple[str, str]]
) -> None:
    tenant = await service.tenant()
    campaign = await tenant.create()
    before = await service.dump()
    async with refused("INVALID_REQUEST", *violations):
        await _update(tenant, campaign.id, paths, **fields)
    assert await service.dump() == before


async def test_a_campaign_that_was_run_is_not_changed(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    await tenant.run(campaign.id)
    before = await service.dump()
    async with refused("ACTION_NOT_ALLOWED") as caught:
        await _update(tenant, campaign.id, ["name"], name="B")
    assert caught["error"].metadata["action"] == "UPDATE"
    assert caught["error"].metadata["status"] == "IN_PROGRESS"
    assert caught["error"].metadata["allowed_statuses"] == "CREATED,READY"
    assert await service.dump() == before


async def test_pages_are_complete_newest_first_and_bound_to_the_filter(service: Service) -> None:
    tenant = await service.tenant()
    made = [(await tenant.create(name=f"Straße {n}")).id for n in range(5)]
    where = campaign_pb2.CampaignFilter(name_contains="STRASSE")
    seen: list[str] = []
    token = ""
    while True:
        request = campaign_pb2.ListCampaignsRequest(page_size=2, page_token=token, filter=where)
        page = await tenant.call(tenant.campaigns.ListCampaigns, request)
        seen += [campaign.id for campaign in page.campaigns]
        token = page.next_page_token
        if not token:
            break
        last_token = token
    assert seen == made[::-1]
    other = campaign_pb2.CampaignFilter(name_contains="other")
    for filter_, bad in ((other, last_token), (where, "nonsense"), (where, last_token[:-3])):
        request = campaign_pb2.ListCampaignsRequest(page_token=bad, filter=filter_)
        async with refused("PAGE_TOKEN_INVALID"):
            await tenant.call(tenant.campaigns.ListCampaigns, request)
    stranger = await service.tenant()
    request = campaign_pb2.ListCampaignsRequest(page_token=last_token, filter=where)
    async with refused("PAGE_TOKEN_INVALID"):
        await stranger.call(stranger.campaigns.ListCampaigns, request)


@pytest.mark.parametrize(
    ("filter_", "count"),
    [
        ({}, 2),
        ({"channel": channel_pb2.CHANNEL_EMAIL}, 0),
        ({"statuses": [CREATED]}, 1),
        ({"statuses": [CREATED, READY]}, 2),
        ({"name_contains": "aut"}, 2),
        ({"name_contains": "%"}, 0),
    ],
)
async def test_filters(service: Service, filter_: Any, count: int) -> None:
    tenant = await service.tenant()
    await tenant.create()
    await service.ready(tenant)
    request = campaign_pb2.ListCampaignsRequest(filter=campaign_pb2.CampaignFilter(**filter_))
    page = await tenant.call(tenant.campaigns.ListCampaigns, request)
    assert len(page.campaigns) == count


@pytest.mark.parametrize(
    ("fields", "violations"),
    [
        ({"page_size": 201}, [("page_size", "FIELD_OUT_OF_RANGE")]),
        ({"page_size": -1}, [("page_size", "FIELD_OUT_OF_RANGE")]),
        (
            {"filter": campaign_pb2.CampaignFilter(channel=9)},  # type: ignore[arg-type] # wrong on purpose
            [("filter.channel", "FIELD_INVALID")],
        ),
        (
            {"filter": campaign_pb2.CampaignFilter(statuses=[1, 99])},  # type: ignore[list-item] # wrong on purpose
            [("filter.statuses[1]", "FIELD_INVALID")],
        ),
        (
            {"filter": campaign_pb2.CampaignFilter(name_contains="x" * 201)},
            [("filter.name_contains", "FIELD_TOO_LONG")],
        ),
    ],
)
async def test_bad_filters(
    service: Service, fields: Any, violations: list[tuple[str, str]]
) -> None:
    tenant = await service.tenant()
    async with refused("INVALID_REQUEST", *violations):
        await tenant.call(
            tenant.campaigns.ListCampaigns, campaign_pb2.ListCampaignsRequest(**fields)
        )

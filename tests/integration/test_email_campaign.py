"""Email campaigns through gRPC: their content, what is wrong with it, who they are from."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import orjson
import pytest
from google.protobuf import json_format

from outreach.client import CallError, OutreachClient
from outreach.email.compiled import CompiledEmail
from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.rpc.channel import bearer, create_channel
from outreach.v1 import campaign_pb2, campaign_pb2_grpc, channel_pb2
from outreach.vocabulary import Channel
from tests.campaign_service import INTERNAL_TOKEN, Service, campaign_service, refused
from tests.email_campaigns import (
    LINK,
    checked,
    create_email,
    email_content,
    email_tenant,
    ready_email,
    update_email,
)

CREATED, READY = campaign_pb2.CAMPAIGN_STATUS_CREATED, campaign_pb2.CAMPAIGN_STATUS_READY
MJML = (
    "<mjml><mj-body><mj-section><mj-column><mj-text>{{name}} "
    f"{LINK}</mj-text></mj-column></mj-section></mj-body></mjml>"
)
BLOCKS = json_format.ParseDict(
    {
        "blocks": [
            {"heading": {"text": "Hello {{name|you}}", "alignment": "ALIGNMENT_CENTER"}},
            {"text": {"spans": [{"text": "a\nb", "bold": True}, {"text": "Go", "link": "https://x.example"}]}},
            {"columns": {"columns": [{"blocks": [{"divider": {}}]}, {"blocks": [{"spacer": {"heightPx": 3}}]}]}},
            {"image": {"url": "https://x.example/{{name}}.png", "widthPx": 100}},
            {"button": {"label": "Unsubscribe", "url": "{{unsubscribe_url}}"}},
        ],
        "style": {"widthPx": 640, "linkColor": "#aa0000"},
    },
    campaign_pb2.EmailBlocks(),
)  # fmt: skip


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


def problems(campaign: campaign_pb2.Campaign) -> list[tuple[str, str]]:
    return [(problem.field, problem.reason) for problem in campaign.template_problems]


def warnings(campaign: campaign_pb2.Campaign) -> set[str]:
    return {warning.code for warning in campaign.template_warnings}


async def stored_email(service: Service, campaign: campaign_pb2.Campaign) -> CompiledEmail:
    compiled = await service.pool.fetchval(
        "SELECT compiled FROM campaign_content WHERE campaign_id = $1", campaign.id
    )
    return CompiledEmail.from_dict(orjson.loads(compiled))


@pytest.mark.parametrize("body", [{}, {"mjml": MJML}, {"blocks": BLOCKS}])
async def test_an_email_campaign_is_kept_as_given_and_compiled(service: Service, body: Any) -> None:
    tenant = await email_tenant(service)
    content = email_content(
        reply_to=campaign_pb2.EmailAddress(address="re@example.com"),
        preheader="For {{name}}",
        text="Text {{name}} {{unsubscribe_url}}",
        **body,
    )
    created = await create_email(tenant, content)
    assert created.email == content
    assert problems(created) == []
    assert await tenant.get(created.id) == created
    email = await stored_email(service, created)
    assert email.names == ("name",)
    assert created.email_size.html_bytes == email.html_bytes > 0
    assert created.email_size.text_bytes == email.text_bytes > 0
    await service.put_contacts(tenant, created.id, [["Ada"]])
    assert (await tenant.get(created.id)).status == READY


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (campaign_pb2.EmailContent(), [
            ("email.subject", "TEMPLATE_EMPTY"),
            ("email.html", "TEMPLATE_EMPTY"),
            ("email.from", "FIELD_REQUIRED"),
        ]),
        (email_content(html="<p>x</p>"), [("email.html", "TEMPLATE_UNSUBSCRIBE_URL_MISSING")]),
        (email_content(mjml="<mjml><mj-body>"), [("email.mjml", "TEMPLATE_MALFORMED")]),
        (email_content(html="{{name" + LINK), [("email.html", "TEMPLATE_MALFORMED")]),
        (email_content(blocks=campaign_pb2.EmailBlocks()), [("email.blocks", "TEMPLATE_EMPTY")]),
    ],
)  # fmt: skip
async def test_an_unfinished_email_is_kept_and_says_why(
    service: Service, content: campaign_pb2.EmailContent, expected: list[tuple[str, str]]
) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant, content)
    assert (campaign.status, problems(campaign)) == (CREATED, expected)
    assert not campaign.HasField("email_size")
    async with refused(
        "ACTION_NOT_ALLOWED", *((f"campaign.{field}", reason) for field, reason in expected)
    ):
        await tenant.run(campaign.id)
    finished = await update_email(tenant, campaign.id, "email", content=email_content())
    assert (finished.status, problems(finished)) == (READY, [])


async def test_contacts_tell_which_placeholders_are_unknown(service: Service) -> None:
    tenant = await email_tenant(service)
    content = email_content(subject="{{city|Bern}}", html=f"{{{{name}}}} {{{{street}}}}{LINK}")
    campaign = await create_email(tenant, content)
    assert problems(campaign) == []
    before = await service.pool.fetchval("SELECT compiled FROM campaign_content")
    await service.put_contacts(tenant, campaign.id, [["Ada"]])
    unknown = await tenant.get(campaign.id)
    assert (unknown.status, problems(unknown)) == (
        CREATED,
        [
            ("email.subject", "TEMPLATE_UNKNOWN_PLACEHOLDER"),
            ("email.html", "TEMPLATE_UNKNOWN_PLACEHOLDER"),
        ],
    )
    assert await service.pool.fetchval("SELECT compiled FROM campaign_content") == before
    ready = await update_email(
        tenant, campaign.id, "email.subject", "email.html", content=email_content()
    )
    assert (ready.status, problems(ready)) == (READY, [])


@pytest.mark.parametrize(
    ("html", "codes"),
    [
        ("<script>alert(1)</script><p onclick=x>{{name}}</p>", {"SCRIPT_REMOVED", "EVENT_HANDLER_REMOVED"}),
        ("<form><input></form>", {"FORM_REMOVED"}),
        ("<blink>x</blink>", {"UNKNOWN_TAG"}),
        ('<a href="javascript:x">x</a>', {"URL_REMOVED"}),
        ("<p>" + "x" * 105_000 + "</p>", {"CLIPPED_BY_GMAIL"}),
    ],
)  # fmt: skip
async def test_what_is_removed_is_warned_of(service: Service, html: str, codes: set[str]) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant, email_content(html=html + LINK))
    assert campaign.status == READY
    assert warnings(campaign) == codes
    assert all(warning.field == "email.html" for warning in campaign.template_warnings)
    assert campaign.email.html == html + LINK
    email = await stored_email(service, campaign)
    for part in ("alert(1)", "onclick", "<form", "<blink", "javascript:"):
        assert part not in email.html


async def test_an_unknown_tag_of_mjml_is_warned_of(service: Service) -> None:
    tenant = await email_tenant(service)
    mjml = MJML.replace("<mj-text>", "<mj-wonder></mj-wonder><mj-text>")
    campaign = await ready_email(service, tenant, email_content(mjml=mjml))
    assert (campaign.status, warnings(campaign)) == (READY, {"UNKNOWN_TAG"})


INJECTED = "a\r\nBcc: x@example.com"


@pytest.mark.parametrize(
    ("content", "field", "reason"),
    [
        (email_content(subject=INJECTED), "subject", "FIELD_INVALID"),
        (email_content(preheader=INJECTED), "preheader", "FIELD_INVALID"),
        (
            email_content(from_=campaign_pb2.EmailAddress(address=f"{INJECTED}@example.com")),
            "from.address",
            "FIELD_INVALID",
        ),
        (
            email_content(from_=campaign_pb2.EmailAddress(address="a@b.ch", display_name=INJECTED)),
            "from.display_name",
            "FIELD_INVALID",
        ),
        (
            email_content(reply_to=campaign_pb2.EmailAddress(address=INJECTED)),
            "reply_to.address",
            "FIELD_INVALID",
        ),
        (
            email_content(reply_to=campaign_pb2.EmailAddress(address="a@b.ch", display_name="a\nb")),
            "reply_to.display_name",
            "FIELD_INVALID",
        ),
        (email_content(html="x" * 1_000_001), "html", "TEMPLATE_TOO_LONG"),
        (email_content(mjml="x" * 3_900_000), "mjml", "TEMPLATE_TOO_LONG"),
        (email_content(text="x" * 1_000_001), "text", "TEMPLATE_TOO_LONG"),
        (email_content(html="a\0"), "html", "TEMPLATE_MALFORMED"),
        (
            email_content(
                blocks=json_format.ParseDict(
                    {"blocks": [{"divider": {}}, {"columns": {"columns": [{"blocks": [
                        {"divider": {}}, {"image": {"url": "https://x.example", "widthPx": 900}},
                    ]}, {}]}}]},
                    campaign_pb2.EmailBlocks(),
                )
            ),
            "blocks.blocks[1].columns.columns[0].blocks[1].image.width_px",
            "FIELD_OUT_OF_RANGE",
        ),
        (
            email_content(
                blocks=campaign_pb2.EmailBlocks(blocks=[campaign_pb2.EmailBlock()] * 1_000_000)
            ),
            "blocks",
            "TEMPLATE_TOO_LONG",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_an_impossible_email_is_refused_by_field(
    service: Service, content: campaign_pb2.EmailContent, field: str, reason: str
) -> None:
    tenant = await email_tenant(service)
    campaign = await create_email(tenant)
    before = await service.dump()
    async with refused("INVALID_REQUEST", (f"campaign.email.{field}", reason)):
        await create_email(tenant, content)
    async with refused("INVALID_REQUEST", (f"campaign.email.{field}", reason)):
        await update_email(tenant, campaign.id, "email", content=content)
    assert await service.dump() == before


async def test_a_template_of_30_mb_is_refused_before_and_at_the_door(service: Service) -> None:
    tenant = await email_tenant(service)
    content = email_content(html="x" * 30_000_000)
    async with OutreachClient(service.public_address, tenant.key) as client:
        with pytest.raises(CallError) as caught:
            await client.create_campaign(
                name="Large", channel=channel_pb2.CHANNEL_EMAIL, email=content
            )
    (violation,) = caught.value.violations
    assert (violation.field, violation.reason) == ("campaign.email.html", "TEMPLATE_TOO_LONG")
    assert "1,000,000" in violation.text
    # A client that sends whatever it is given.
    unlimited = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(service.public_address, options=unlimited) as channel:
        stub = campaign_pb2_grpc.CampaignServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        campaign = campaign_pb2.Campaign(name="x", channel=2, email=content)  # type: ignore[arg-type]  # a number
        request = campaign_pb2.CreateCampaignRequest(campaign=campaign)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.CreateCampaign(request, metadata=tenant.metadata, timeout=30)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await service.dump())["campaign"] == []


async def test_validate_only_compiles_and_stores_nothing(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    before = await service.dump()
    request = campaign_pb2.CreateCampaignRequest(
        campaign=campaign_pb2.Campaign(
            name="x",
            channel=channel_pb2.CHANNEL_EMAIL,
            email=email_content(html="<script></script>"),
        ),
        validate_only=True,
    )
    answer = await tenant.call(tenant.campaigns.CreateCampaign, request)
    assert problems(answer) == [("email.html", "TEMPLATE_UNSUBSCRIBE_URL_MISSING")]
    changed = await update_email(
        tenant,
        campaign.id,
        "email.html",
        content=email_content(html=f"<script></script>{LINK}"),
        validate_only=True,
    )
    assert warnings(changed) == {"SCRIPT_REMOVED"}
    assert await service.dump() == before


async def test_a_page_of_large_emails_is_as_short_as_it_has_to_be(service: Service) -> None:
    tenant = await email_tenant(service)
    made = [
        (await create_email(tenant, email_content(html="x" * 990_000 + LINK))).id for _ in range(7)
    ]
    seen: list[str] = []
    pages = 0
    token = ""
    while True:
        request = campaign_pb2.ListCampaignsRequest(page_size=200, page_token=token)
        page = await tenant.call(tenant.campaigns.ListCampaigns, request)
        seen += [campaign.id for campaign in page.campaigns]
        pages += 1
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    assert pages == 3


# edits


async def test_switching_the_form_of_the_body_keeps_the_rest(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant, email_content(preheader="p", text="t"))
    for form, body in (("mjml", {"mjml": MJML}), ("blocks", {"blocks": BLOCKS}), ("html", {})):
        content = email_content(**body)
        changed = await update_email(tenant, campaign.id, f"email.{form}", content=content)
        expected = email_content(preheader="p", text="t", **body)
        assert changed.email == expected
        assert changed.status == READY
        assert changed.email_size.html_bytes == (await stored_email(service, changed)).html_bytes
    emptied = await update_email(tenant, campaign.id, "email.mjml")
    assert emptied.email.WhichOneof("body") is None
    assert emptied.email.preheader == "p"
    assert problems(emptied) == [("email.html", "TEMPLATE_EMPTY")]
    assert not emptied.HasField("email_size")
    assert await service.pool.fetchval("SELECT compiled FROM campaign_content") is None


async def test_an_edit_that_leaves_the_template_alone_compiles_nothing(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    query = "SELECT compiled, compiled_report, content_hash FROM campaign_content"
    compiled, report, hash_ = await service.pool.fetchrow(query)
    assert orjson.loads(report)["sha256"] == hashlib.sha256(compiled).hexdigest()
    renamed = await update_email(tenant, campaign.id, "name", name="B")
    assert (renamed.name, renamed.email_size) == ("B", campaign.email_size)
    assert tuple(await service.pool.fetchrow(query)) == (compiled, report, hash_)
    answered = email_content(reply_to=campaign_pb2.EmailAddress(address="re@example.com"))
    await update_email(tenant, campaign.id, "email.reply_to", content=answered)
    after = await service.pool.fetchrow(query)
    assert (after[0], after[1]) == (compiled, report)
    assert after[2] != hash_
    await update_email(tenant, campaign.id, "email.subject", content=email_content(subject="New"))
    assert (await service.pool.fetchrow(query))[0] != compiled


async def test_attachments_belong_to_the_content(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    before = await service.pool.fetchval("SELECT content_hash FROM campaign_content")
    await service.pool.execute(
        "INSERT INTO attachment VALUES (gen_random_uuid(), $1, 'a.pdf', 'application/pdf', 7, $2)",
        campaign.id,
        b"s" * 32,
    )
    await update_email(tenant, campaign.id, "name", name="B")
    after = await service.pool.fetchval("SELECT content_hash FROM campaign_content")
    assert after != before
    await service.pool.execute("DELETE FROM attachment")
    await update_email(tenant, campaign.id, "name", name="C")
    assert await service.pool.fetchval("SELECT content_hash FROM campaign_content") == before


async def test_an_edit_that_the_state_forbids_is_refused_as_ever(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    async with refused("ETAG_MISMATCH"):
        await update_email(
            tenant, campaign.id, "email.html", content=email_content(), etag="another"
        )
    async with refused("INVALID_REQUEST", ("update_mask", "FIELD_UNKNOWN")):
        await update_email(tenant, campaign.id, "email.body")
    async with refused("INVALID_REQUEST", ("campaign.sms", "FIELD_INVALID")):
        await update_email(tenant, campaign.id, "sms.body")
    await tenant.run(campaign.id)
    before = await service.dump()
    async with refused("ACTION_NOT_ALLOWED"):
        await update_email(tenant, campaign.id, "email.html", content=email_content(html="x"))
    assert await service.dump() == before


# senders


async def test_a_sender_that_is_not_verified_is_refused(service: Service) -> None:
    tenant = await email_tenant(service)
    other = campaign_pb2.EmailAddress(address="other@elsewhere.example")
    unknown = await create_email(tenant, email_content(from_=other))
    assert problems(unknown) == []
    await checked(service, tenant, addresses=["News@Example.com"], domains=["corp.example"])
    before = await service.dump()
    async with refused(
        "INVALID_REQUEST",
        ("campaign.email.from.address", "SENDER_NOT_VERIFIED"),
        ("campaign.email.reply_to.address", "SENDER_NOT_VERIFIED"),
    ) as caught:
        await create_email(tenant, email_content(from_=other, reply_to=other))
    assert "news@example.com, any address of corp.example" in caught["error"].text
    assert await service.dump() == before
    reply = campaign_pb2.EmailAddress(address="any@CORP.example")
    good = await create_email(tenant, email_content(reply_to=reply))
    async with refused("INVALID_REQUEST", ("campaign.email.from.address", "SENDER_NOT_VERIFIED")):
        await update_email(tenant, good.id, "email.from", content=email_content(from_=other))
    # What is not touched is checked when it is run.
    assert (await update_email(tenant, unknown.id, "name", name="B")).name == "B"


async def test_a_sender_that_is_not_verified_any_more_stops_a_run(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    await checked(service, tenant, domains=["corp.example"])
    before = await service.dump()
    async with refused(
        "ACTION_NOT_ALLOWED", ("campaign.email.from.address", "SENDER_NOT_VERIFIED")
    ) as caught:
        await tenant.run(campaign.id)
    assert caught["error"].metadata["why"] == "SENDER_NOT_VERIFIED"
    assert caught["error"].metadata["allowed_statuses"] == "READY"
    assert await service.dump() == before
    await checked(service, tenant, domains=["example.com"])
    assert (await tenant.run(campaign.id)).run == 1


async def test_credentials_that_the_provider_refuses_are_none(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    await checked(service, tenant, fault="SendGrid refuses the API key.")
    for call in (create_email(tenant), tenant.run(campaign.id)):
        async with refused("CHANNEL_NOT_CONFIGURED") as caught:
            await call
        assert "SendGrid refuses the API key." in caught["error"].text
    # A draft can still be written.
    assert (await update_email(tenant, campaign.id, "name", name="B")).name == "B"


async def test_an_email_that_was_stored_uncompiled_is_compiled_by_an_edit(service: Service) -> None:
    """As a version that could not compile left it."""
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant)
    await service.pool.execute(
        "UPDATE campaign_content SET compiled = NULL, compiled_report = NULL"
    )
    async with refused("ACTION_NOT_ALLOWED", ("campaign.email", "TEMPLATE_EMPTY")):
        await tenant.run(campaign.id)
    await update_email(tenant, campaign.id, "name", name="B")
    assert (await tenant.run(campaign.id)).run == 1


# what a sender gets


async def test_a_sender_gets_what_was_compiled_and_no_source(service: Service) -> None:
    tenant = await service.tenant(channels=(Channel.SMS, Channel.EMAIL))
    reply = campaign_pb2.EmailAddress(address="re@example.com")
    content = email_content(reply_to=reply, text="Given {{unsubscribe_url}}", blocks=BLOCKS)
    campaign = await ready_email(service, tenant, content)
    got = await _content(service, campaign)
    compiled, hash_ = await service.pool.fetchrow(
        "SELECT compiled, content_hash FROM campaign_content WHERE campaign_id = $1", campaign.id
    )
    assert (got.compiled_email, got.content_hash) == (compiled, hash_)
    assert (list(got.variable_names), got.is_test) == (["name"], False)
    content.ClearField("blocks")
    content.ClearField("text")
    assert got.email == content
    await service.pool.execute("UPDATE campaign SET test_of = id WHERE id = $1", campaign.id)
    assert (await _content(service, campaign)).is_test
    sms = await _content(service, await service.ready(tenant))
    assert (sms.sms.body, sms.compiled_email) == ("Hello {{name}}", b"")


async def test_the_largest_email_reaches_the_sender(service: Service) -> None:
    tenant = await email_tenant(service)
    quotes = '"' * 900_000  # two bytes each in JSON
    content = email_content(html=f"<p>{quotes}</p>{LINK}", text="ü" * 450_000)
    campaign = await ready_email(service, tenant, content)
    assert campaign.status == READY
    got = await _content(service, campaign)
    assert len(got.compiled_email) > 2_500_000
    assert got.ByteSize() < 4 * 1024 * 1024


async def _content(
    service: Service, campaign: campaign_pb2.Campaign
) -> delivery_pb2.CampaignContent:
    async with create_channel(service.internal_address) as channel:
        stub = delivery_pb2_grpc.DeliveryServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        request = delivery_pb2.GetCampaignContentRequest(campaign_id=campaign.id)
        content: delivery_pb2.CampaignContent = await stub.GetCampaignContent(
            request, metadata=bearer(INTERNAL_TOKEN), timeout=30
        )
        return content

"""Previews and estimates of email campaigns: what one recipient gets, with hostile values too."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from outreach.recipients import recipient_hash
from outreach.v1 import campaign_pb2
from outreach.vocabulary import Channel
from services.campaign.rpc.campaign_requests import PREVIEW_VALUE_CHARACTERS_MAX
from tests.campaign_service import Service, Tenant, campaign_service, recipient, refused
from tests.email_campaigns import LINK, create_email, email_content, email_tenant, ready_email

HTML = (
    "<p>Hello {{name|you}} of {{city}}</p>"
    '<a href="https://x.example/?q={{name}}">link</a><a href="{{url|https://x.example/}}">own</a>'
    + LINK
)
NAMES = ("name", "city", "url")


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


async def preview(
    tenant: Tenant, campaign_id: str, number: int | None = None, **values: str
) -> campaign_pb2.PreviewCampaignResponse:
    request = campaign_pb2.PreviewCampaignRequest(id=campaign_id)
    if number is not None:
        request.message_number = number
    else:
        request.values.variables.update(values)
    answer: campaign_pb2.PreviewCampaignResponse = await tenant.call(
        tenant.campaigns.PreviewCampaign, request
    )
    return answer


async def test_a_preview_is_the_email_of_one_contact(service: Service) -> None:
    tenant = await email_tenant(service)
    content = email_content(
        subject="{{name}} & {{city|Bern}}", preheader="<{{name}}>", html=HTML, text=""
    )
    contacts: list[list[str | None]] = [
        ["Ada", "Zürich", "https://ada.example/?a=1&b=2"],
        ["Grace", None, None],
    ]
    campaign = await ready_email(service, tenant, content, contacts, NAMES)
    first = await preview(tenant, campaign.id, 1)
    assert not first.HasField("sms")
    email = first.email
    assert (email.subject, email.preheader) == ("Ada & Zürich", "<Ada>")
    assert "<p>Hello Ada of Zürich</p>" in email.html
    assert 'href="https://x.example/?q=Ada"' in email.html
    assert 'href="https://ada.example/?a=1&amp;b=2"' in email.html
    assert "Hello Ada of Zürich" in email.text
    for part in (email.html, email.text):
        assert "https://outreach.invalid/unsubscribe/preview" in part
        assert "{{" not in part
    assert email.size.html_bytes == len(email.html.encode())
    assert email.size.text_bytes == len(email.text.encode())
    assert (list(first.missing_variables), list(email.warnings)) == ([], [])
    second = await preview(tenant, campaign.id, 2)
    assert second.email.subject == "Grace & Bern"
    assert "Hello Grace of {{city}}" in second.email.html
    assert 'href="https://x.example/"' in second.email.html
    assert list(second.missing_variables) == ["city"]
    async with refused("MESSAGE_NOT_FOUND"):
        await preview(tenant, campaign.id, 3)


@pytest.mark.parametrize(
    ("value", "in_html", "in_url", "in_text"),
    [
        (
            "<script>alert('x')</script>",
            "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;",
            "%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E",
            "<script>alert('x')</script>",
        ),
        (
            "\"quoted\" 'too'",
            "&quot;quoted&quot; &#x27;too&#x27;",
            "%22quoted%22%20%27too%27",
            "\"quoted\" 'too'",
        ),
        ("{{city}} }}", "{{city}} }}", "%7B%7Bcity%7D%7D%20%7D%7D", "{{city}} }}"),
        ("100 % off", "100 % off", "100%20%25%20off", "100 % off"),
        ("😀é", "😀é", "%F0%9F%98%80%C3%A9", "😀é"),
    ],
)
async def test_values_are_written_for_where_they_stand(
    service: Service, value: str, in_html: str, in_url: str, in_text: str
) -> None:
    tenant = await email_tenant(service)
    content = email_content(subject="{{name}}", html=HTML)
    campaign = await ready_email(service, tenant, content, [[value, "Bern", None]], NAMES)
    for answer in (
        await preview(tenant, campaign.id, 1),
        await preview(tenant, campaign.id, name=value, city="Bern"),
    ):
        email = answer.email
        assert f"<p>Hello {in_html} of Bern</p>" in email.html
        assert f'href="https://x.example/?q={in_url}"' in email.html
        assert f"Hello {in_text} of Bern" in email.text
        assert email.subject == in_text
        assert list(answer.missing_variables) == []


async def test_a_value_never_makes_two_lines_of_a_subject(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await create_email(tenant, email_content(subject="Hi {{name}}"))
    answer = await preview(tenant, campaign.id, name="a\r\nBcc: x@example.com")
    assert answer.email.subject == "Hi a Bcc: x@example.com"


async def test_a_value_of_20_kb_is_refused_and_the_longest_is_shown(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await create_email(tenant)
    async with refused("INVALID_REQUEST", ("values.variables", "FIELD_TOO_LONG")):
        await preview(tenant, campaign.id, name="x" * 20_000)
    longest = "<" * PREVIEW_VALUE_CHARACTERS_MAX
    answer = await preview(tenant, campaign.id, name=longest)
    assert f"<p>Hello {longest.replace('<', '&lt;')}</p>" in answer.email.html
    # A contact's value may be longer, where the limit for files is set so.
    await service.put_contacts(tenant, campaign.id, [["y" * 20_000]])
    answer = await preview(tenant, campaign.id, 1)
    assert f"<p>Hello {'y' * 20_000}</p>" in answer.email.html


async def test_a_preview_warns_of_what_the_values_do(service: Service) -> None:
    tenant = await email_tenant(service)
    html = f"<script></script>{'{{name}}' * 30}<a href='{{{{url}}}}'>x</a>{LINK}"
    campaign = await create_email(tenant, email_content(html=html))
    assert [warning.code for warning in campaign.template_warnings] == ["SCRIPT_REMOVED"]
    answer = await preview(tenant, campaign.id, name="x" * 4_000, url="javascript:alert(1)")
    codes = {warning.code: warning for warning in answer.email.warnings}
    assert set(codes) == {"SCRIPT_REMOVED", "CLIPPED_BY_GMAIL", "VALUE_NOT_A_URL"}
    assert f"{answer.email.size.html_bytes:,}" in codes["CLIPPED_BY_GMAIL"].description
    assert "{{url}}" in codes["VALUE_NOT_A_URL"].description
    assert 'href="#"' in answer.email.html
    assert "javascript" not in answer.email.html


async def test_an_email_that_values_make_too_large_is_not_shown(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await create_email(tenant, email_content(html="{{name}}" * 1_500 + LINK))
    async with refused("ACTION_NOT_ALLOWED") as caught:
        await preview(tenant, campaign.id, name="<" * 4_000)
    assert caught["error"].metadata["why"] == "TOO_LARGE"


async def test_a_placeholder_that_no_column_provides_is_shown_as_missing(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await ready_email(service, tenant, email_content(html="{{street}}" + LINK))
    answer = await preview(tenant, campaign.id, 1)
    assert list(answer.missing_variables) == ["street"]
    assert "{{street}}" in answer.email.html


async def test_a_preview_from_blocks_and_from_mjml(service: Service) -> None:
    tenant = await email_tenant(service)
    text = campaign_pb2.TextBlock(
        spans=[
            campaign_pb2.TextSpan(text="Hi {{name}} "),
            campaign_pb2.TextSpan(text="Unsubscribe", link="{{unsubscribe_url}}"),
        ]
    )
    blocks = campaign_pb2.EmailBlocks(blocks=[campaign_pb2.EmailBlock(text=text)])
    mjml = (
        "<mjml><mj-body><mj-section><mj-column><mj-text>"
        f"Hi {{{{name}}}} {LINK}</mj-text></mj-column></mj-section></mj-body></mjml>"
    )
    for body in ({"blocks": blocks}, {"mjml": mjml}):
        campaign = await create_email(tenant, email_content(**body))
        email = (await preview(tenant, campaign.id, name="<Ada>")).email
        assert "Hi &lt;Ada&gt;" in email.html
        assert "Hi <Ada>" in email.text
        assert "https://outreach.invalid/" in email.html


async def test_a_template_that_is_no_email_yet_is_not_previewed(service: Service) -> None:
    tenant = await email_tenant(service)
    campaign = await create_email(tenant, email_content(html="<p>x</p>"))
    violation = ("campaign.email.html", "TEMPLATE_UNSUBSCRIBE_URL_MISSING")
    async with refused("ACTION_NOT_ALLOWED", violation) as caught:
        await preview(tenant, campaign.id)
    assert caught["error"].metadata["why"] == "TEMPLATE_INVALID"
    request = campaign_pb2.EstimateCampaignRequest(id=campaign.id)
    async with refused("ACTION_NOT_ALLOWED", violation):
        await tenant.call(tenant.campaigns.EstimateCampaign, request)
    stranger = await email_tenant(service)
    async with refused("CAMPAIGN_NOT_FOUND"):
        await preview(stranger, campaign.id)


async def _estimate(tenant: Tenant, campaign_id: str) -> Any:
    request = campaign_pb2.EstimateCampaignRequest(id=campaign_id)
    return await tenant.call(tenant.campaigns.EstimateCampaign, request)


async def test_an_estimate_says_whom_a_run_would_reach(service: Service) -> None:
    tenant = await email_tenant(service, segments_per_second_max=2.0)
    content = email_content(html=f"{{{{name}}}} {{{{city}}}} {{{{street}}}}{LINK}")
    contacts: list[list[str | None]] = [
        ["Ada", "Bern"],
        ["Ada", None],
        [None, None],
        ["gone", "x"],
        ["back", "x"],
    ]
    for policy, to_send, skipped in (
        (campaign_pb2.MISSING_VARIABLE_POLICY_KEEP_PLACEHOLDER, 4, 0),
        (campaign_pb2.MISSING_VARIABLE_POLICY_SKIP, 0, 4),
    ):
        campaign = await ready_email(
            service, tenant, content, contacts, ("name", "city"), missing_variable_policy=policy
        )
        await service.pool.execute(
            "INSERT INTO suppression VALUES ($1, 2, $2, true, 'link', now()), "
            "($1, 2, $3, false, 'link', now()) ON CONFLICT DO NOTHING",
            tenant.organisation_id,
            recipient_hash(service.recipient_key, Channel.EMAIL, recipient(4, Channel.EMAIL)),
            recipient_hash(service.recipient_key, Channel.EMAIL, recipient(5, Channel.EMAIL)),
        )
        estimate = await _estimate(tenant, campaign.id)
        assert (estimate.to_send, estimate.suppressed, estimate.skipped) == (to_send, 1, skipped)
        # Nobody has a street.
        assert estimate.missing_variables == 4
        assert dict(estimate.missing_by_variable) == {"name": 1, "city": 2, "street": 4}
        assert not estimate.HasField("sms")
        assert estimate.email.template == campaign.email_size
        assert estimate.email.attachments_bytes == 0
        assert estimate.email.sending_time.ToMilliseconds() == to_send * 500


async def test_an_estimate_counts_attachments_and_reads_every_batch(service: Service) -> None:
    tenant = await email_tenant(service)
    contacts: list[list[str | None]] = [[f"N{n}" if n % 2 else None] for n in range(4_500)]
    campaign = await ready_email(service, tenant, None, contacts)
    for size in (1_000, 20_000_000):
        await service.pool.execute(
            "INSERT INTO attachment VALUES ($1, $2, 'a.pdf', 'application/pdf', $3, $4)",
            uuid4(),
            campaign.id,
            size,
            b"s" * 32,
        )
    estimate = await _estimate(tenant, campaign.id)
    assert (estimate.to_send, estimate.missing_variables) == (4_500, 2_250)
    assert estimate.email.attachments_bytes == 20_001_000
    assert not estimate.email.HasField("sending_time")

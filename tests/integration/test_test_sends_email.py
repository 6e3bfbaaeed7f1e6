"""Test sends of email campaigns: what senders get is the compiled email with its mark."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.email.blocks import Html
from outreach.email.compile import compile_email
from outreach.email.compiled import CompiledEmail
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import campaign_pb2, message_pb2
from tests.campaign_service import refused
from tests.trial_rig import TrialRig, accepted, report, trial_rig

TO = "ada@example.com"


@pytest.fixture
async def rig(database_dsn: str, nats_url: str) -> AsyncIterator[TrialRig]:
    async with trial_rig(database_dsn, nats_url) as running:
        yield running


async def compiled_campaign(rig: TrialRig, **fields: Any) -> campaign_pb2.Campaign:
    """An email campaign whose template is compiled, as it is stored."""
    campaign = await rig.email_campaign(**fields)
    email = campaign.email
    compiled = compile_email(Html(email.html), subject=email.subject, variable_names=None)
    data = orjson.dumps(compiled.to_dict())
    report = {
        "html_bytes": compiled.html_bytes,
        "text_bytes": compiled.text_bytes,
        "names": compiled.names,
        "warnings": [],
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    await rig.service.pool.execute(
        """
        UPDATE campaign_content SET compiled = $2, compiled_report = $3::text::jsonb
        WHERE campaign_id = $1
        """,
        UUID(campaign.id),
        data,
        orjson.dumps(report).decode(),
    )
    return campaign


async def stored(rig: TrialRig, campaign_id: str) -> dict[str, Any]:
    row = await rig.service.pool.fetchrow(
        "SELECT * FROM campaign_content WHERE campaign_id = $1", UUID(campaign_id)
    )
    assert row is not None
    return dict(row)


async def test_the_compiled_email_is_copied_with_its_mark(rig: TrialRig) -> None:
    campaign = await compiled_campaign(rig)
    test = await rig.sent(campaign.id, recipients=[TO], values={"city": "Rome"})
    own, copied = await stored(rig, campaign.id), await stored(rig, test.id)
    original = CompiledEmail.from_dict(orjson.loads(own["compiled"]))
    marked = CompiledEmail.from_dict(orjson.loads(copied["compiled"]))
    assert marked.subject == f"[Test] {original.subject}"
    assert (marked.html, marked.text, marked.tags) == (original.html, original.text, original.tags)
    assert copied["compiled_report"] == own["compiled_report"]
    assert copied["content_hash"] != own["content_hash"]
    content = await rig.content(test.id)
    assert content.is_test
    assert content.email.subject == "[Test] Hi {{name|there}}"
    assert list(content.variable_names) == ["name", "city"]
    rendered = marked.bind(content.variable_names).render(["", "Rome"], "https://example.com/u")
    assert rendered.subject == "[Test] Hi there"
    assert "there of Rome" in rendered.html
    assert await rig.owner.get(campaign.id) == campaign


async def test_an_email_that_is_deferred_is_handed_over_and_not_final(rig: TrialRig) -> None:
    campaign = await compiled_campaign(rig)
    sending = asyncio.create_task(rig.send(campaign.id, [TO]))
    test_send_id = await rig.begun()
    (message,) = await rig.claim(test_send_id)
    await rig.report(test_send_id, accepted(message), report(message, pb.OUTCOME_DEFERRED))
    answer = await sending
    assert answer.messages[0].status == message_pb2.MESSAGE_STATUS_RETRYING
    assert not answer.final


async def test_addresses_are_sent_to_in_their_usual_form_and_each_once(rig: TrialRig) -> None:
    campaign = await compiled_campaign(rig)
    test = await rig.sent(campaign.id, recipients=["Ada@EXAMPLE.com"])
    assert [message.recipient for message in test.messages] == ["Ada@example.com"]
    wrong = [("recipients[1]", "FIELD_INVALID"), ("recipients[2]", "FIELD_INVALID")]
    async with refused("INVALID_REQUEST", *wrong):
        await rig.send(campaign.id, ["Ada@example.com", "+15005550001", "ada@Example.com"])


async def test_unsubscribe_url_is_no_variable(rig: TrialRig) -> None:
    campaign = await compiled_campaign(rig)
    async with refused("INVALID_REQUEST", ("values.unsubscribe_url", "FIELD_UNKNOWN")):
        await rig.send(campaign.id, [TO], values={"unsubscribe_url": "https://example.com"})


async def test_a_subject_that_would_be_too_long_by_the_mark_goes_without(rig: TrialRig) -> None:
    campaign = await compiled_campaign(rig, subject="{{name}}" + "x" * 900)
    short = await rig.sent(campaign.id, recipients=[TO], values={"name": "a" * 91})
    assert (await rig.content(short.id)).email.subject.startswith("[Test] ")
    long = await rig.sent(campaign.id, recipients=[TO], values={"name": "a" * 92})
    assert not (await rig.content(long.id)).email.subject.startswith("[Test] ")
    whole = CompiledEmail.from_dict(orjson.loads((await stored(rig, long.id))["compiled"]))
    assert not whole.subject.startswith("[Test] ")


async def test_an_email_needs_its_sender_and_to_be_compiled(rig: TrialRig) -> None:
    campaign = await compiled_campaign(rig, **{"from": None})
    async with refused("ACTION_NOT_ALLOWED", ("campaign.email.from", "FIELD_REQUIRED")):
        await rig.send(campaign.id, [TO])
    changed = campaign_pb2.Campaign(id=campaign.id)
    getattr(changed.email, "from").address = "news@example.com"
    request = campaign_pb2.UpdateCampaignRequest(
        campaign=changed, update_mask=FieldMask(paths=["email.from"])
    )
    await rig.owner.call(rig.owner.campaigns.UpdateCampaign, request)
    await rig.service.pool.execute("UPDATE campaign_content SET compiled = NULL")
    async with refused("ACTION_NOT_ALLOWED", ("campaign.email", "TEMPLATE_MALFORMED")):
        await rig.send(campaign.id, [TO])
    assert await rig.rows() == []

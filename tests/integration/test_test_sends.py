"""Test sends: what goes out, what is told of it, and that the campaign stays as it is."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.recipients import recipient_hash
from outreach.v1 import campaign_pb2, failure_reason_pb2, message_pb2, test_send_pb2
from outreach.vocabulary import Channel
from services.campaign.usecases.create_test_send import UNDER_WAY_MAX
from tests.campaign_service import refused
from tests.trial_rig import TO, TrialRig, accepted, report, trial_rig

OTHER = "+15005559002"
UNREACHABLE = failure_reason_pb2.FAILURE_REASON_UNREACHABLE


@pytest.fixture
async def rig(database_dsn: str, nats_url: str) -> AsyncIterator[TrialRig]:
    async with trial_rig(database_dsn, nats_url) as running:
        yield running


def statuses(test: Any) -> list[str]:
    return [
        message_pb2.MessageStatus.Name(message.status).removeprefix("MESSAGE_STATUS_")
        for message in test.messages
    ]


async def test_it_goes_out_marked_with_the_given_values(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner, body="Hello {{name}} in {{city|town}}")
    sending = asyncio.create_task(rig.send(campaign.id, (OTHER, TO), values={"name": "Ada"}))
    test_send_id = await rig.begun()
    content = await rig.content(test_send_id)
    assert content.sms.body == "[Test] Hello {{name}} in {{city|town}}"
    assert content.is_test
    assert list(content.variable_names) == ["name", "city"]
    own = await rig.content(campaign.id)
    assert not own.is_test
    assert own.content_hash != content.content_hash
    first, second = await rig.claim(test_send_id)
    assert [first.recipient, second.recipient] == [OTHER, TO]
    assert list(first.values) == list(second.values) == ["Ada", ""]
    assert not sending.done(), "it waits for what becomes of them"
    await rig.report(test_send_id, accepted(first), accepted(second))
    answer = await sending
    assert (answer.id, answer.campaign_id) == (str(test_send_id), campaign.id)
    assert [message.recipient for message in answer.messages] == [OTHER, TO]
    assert statuses(answer) == ["SENT", "SENT"]
    assert [message.provider_message_id for message in answer.messages] == ["SM1", "SM2"]
    assert not answer.final
    assert answer.HasField("create_time")
    assert answer.messages[0].HasField("update_time")


async def test_receipts_are_told_later(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    answer = await rig.sent(campaign.id, recipients=(TO, OTHER))
    delivered = pb.Report(number=1, attempt=1, outcome=pb.OUTCOME_DELIVERED)
    failed = pb.Report(
        number=2,
        attempt=1,
        outcome=pb.OUTCOME_FAILED,
        failure_reason=UNREACHABLE,
        provider_code="30003",
    )
    await rig.report(UUID(answer.id), delivered)
    assert (await rig.get(answer.id)).final is False
    await rig.report(UUID(answer.id), failed)
    test = await rig.get(answer.id)
    assert test.final
    assert statuses(test) == ["DELIVERED", "FAILED"]
    assert test.messages[1].failure_reason == UNREACHABLE
    assert test.messages[1].provider_code == "30003"


async def test_the_campaign_is_not_touched(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    before = await rig.service.dump()
    await rig.sent(campaign.id)
    assert await rig.owner.get(campaign.id) == campaign
    after = await rig.service.dump()
    assert before["disclaimer_acceptance"] == after["disclaimer_acceptance"]
    for table in ("campaign", "campaign_content", "message", "contact", "change_log"):
        kept = [row for row in after[table] if row[0] == UUID(campaign.id)]
        assert kept == before[table]


async def test_a_campaign_without_contacts_has_its_placeholders_as_variables(
    rig: TrialRig,
) -> None:
    campaign = await rig.owner.create("{{a}}, {{b|B}} and {{a}}")
    answer = await rig.sent(campaign.id, values={"b": "Bob"})
    assert list((await rig.content(answer.id)).variable_names) == ["a", "b"]
    variables = await rig.service.pool.fetchval(
        "SELECT variables FROM contact WHERE campaign_id = $1", UUID(answer.id)
    )
    assert variables == [None, "Bob"]


async def test_columns_that_the_template_does_not_use_may_be_given_values(rig: TrialRig) -> None:
    campaign = await rig.owner.create("Hi {{later}}")
    await rig.service.put_contacts(rig.owner, campaign.id, [["Ada", "Rome"]], ("name", "city"))
    answer = await rig.sent(campaign.id, values={"city": "Oslo", "later": "x"})
    content = await rig.content(answer.id)
    assert list(content.variable_names) == ["name", "city", "later"]


async def test_who_opted_out_gets_none(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    await rig.service.pool.execute(
        "INSERT INTO suppression VALUES ($1, 1, $2, true, 'reply', now())",
        rig.owner.organisation_id,
        recipient_hash(rig.service.recipient_key, Channel.SMS, TO),
    )
    sending = asyncio.create_task(rig.send(campaign.id, (TO, OTHER)))
    test_send_id = await rig.begun()
    (message,) = await rig.claim(test_send_id)
    assert message.recipient == OTHER
    refusal = report(message, pb.OUTCOME_REJECTED, failure_reason=1, provider_code="21211")
    await rig.report(test_send_id, refusal)
    answer = await sending
    assert statuses(answer) == ["OPTED_OUT", "FAILED"]
    assert answer.messages[1].failure_reason == failure_reason_pb2.FAILURE_REASON_INVALID_RECIPIENT
    assert answer.messages[1].provider_code == "21211"
    assert answer.messages[1].provider_message_id == ""
    assert answer.final


async def test_what_fails_the_account_is_the_reason_of_each_message(
    database_dsn: str, nats_url: str
) -> None:
    async with trial_rig(database_dsn, nats_url, sweeps=True) as rig:
        problem = failure_reason_pb2.FAILURE_REASON_ACCOUNT_PROBLEM
        campaign = await rig.service.ready(rig.owner)
        sending = asyncio.create_task(rig.send(campaign.id, (TO, OTHER)))
        await rig.fail(await rig.begun(), problem, "20003")
        answer = await sending
        assert statuses(answer) == ["FAILED", "FAILED"]
        assert {message.failure_reason for message in answer.messages} == {problem}
        assert {message.provider_code for message in answer.messages} == {"20003"}
        assert answer.final
        assert await rig.owner.get(campaign.id) == campaign


async def test_it_answers_before_the_callers_deadline_with_what_is_known(
    rig: TrialRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.campaign.rpc.test_sends.DEADLINE_MARGIN_SECONDS", 17.0)
    campaign = await rig.service.ready(rig.owner)
    request = test_send_pb2.CreateTestSendRequest(campaign_id=campaign.id, recipients=[TO])
    # Nobody sends.
    answer = await rig.stub().CreateTestSend(request, metadata=rig.owner.metadata, timeout=18.0)
    assert statuses(answer) == ["QUEUED"]
    assert not answer.final


async def test_it_answers_after_its_time_with_what_is_known(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    rig.service.parts.test_sends._answer_seconds_max = 0.2
    sending = asyncio.create_task(rig.send(campaign.id, (TO, OTHER)))
    answer = await sending
    assert statuses(answer) == ["QUEUED", "QUEUED"]
    (message, _) = await rig.claim(UUID(answer.id))
    await rig.report(UUID(answer.id), accepted(message))
    assert statuses(await rig.get(answer.id)) == ["SENT", "SENDING"]


async def test_it_answers_when_the_service_stops(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    rig.service.parts.test_sends._answer_seconds_max = 300.0
    sending = asyncio.create_task(rig.send(campaign.id))
    await rig.begun()
    rig.service.parts.hub.drain()
    async with asyncio.timeout(60):
        assert statuses(await sending) == ["QUEUED"]
    # And one that was committed and then finds the service stopping.
    async with asyncio.timeout(60):
        assert statuses(await rig.send(campaign.id)) == ["QUEUED"]


async def test_a_repeated_request_is_the_same_test_as_it_is_now(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    request_id = str(uuid4())
    first = await rig.sent(campaign.id, request_id=request_id)
    delivered = pb.Report(number=1, attempt=1, outcome=pb.OUTCOME_DELIVERED)
    await rig.report(UUID(first.id), delivered)
    again = await rig.send(campaign.id, request_id=request_id)
    assert again.id == first.id
    assert statuses(again) == ["DELIVERED"]
    async with refused("REQUEST_ID_REUSED"):
        await rig.send(campaign.id, (OTHER,), request_id=request_id)
    assert len(await rig.rows()) == 1


async def test_of_repeats_at_the_same_time_one_sends(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    request_id = str(uuid4())
    sending = [asyncio.create_task(rig.send(campaign.id, request_id=request_id)) for _ in range(5)]
    test_send_id = await rig.begun()
    (message,) = await rig.claim(test_send_id)
    await rig.report(test_send_id, accepted(message))
    answers = await asyncio.gather(*sending)
    assert {answer.id for answer in answers} == {str(test_send_id)}
    assert all(statuses(answer) == ["SENT"] for answer in answers)
    assert len(await rig.rows()) == 1


async def test_without_a_request_id_each_is_another(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    first, second = await rig.sent(campaign.id), await rig.sent(campaign.id)
    assert first.id != second.id


async def test_validate_only_checks_and_keeps_nothing(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    before = await rig.service.dump()
    answer = await rig.send(campaign.id, (TO,), validate_only=True, request_id=str(uuid4()))
    assert (answer.id, answer.campaign_id) == ("", campaign.id)
    assert [message.recipient for message in answer.messages] == [TO]
    assert statuses(answer) == ["UNSPECIFIED"]
    assert await rig.service.dump() == before
    async with refused("INVALID_REQUEST", ("recipients", "FIELD_REQUIRED")):
        await rig.send(campaign.id, (), validate_only=True)


BAD_REQUESTS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"recipients": ()}, [("recipients", "FIELD_REQUIRED")]),
    (
        {"recipients": [f"+150055590{n:02}" for n in range(11)]},
        [("recipients", "FIELD_OUT_OF_RANGE")],
    ),
    (
        {"recipients": ["07700 900123", TO, "ada@example.com", ""]},
        [(f"recipients[{n}]", "FIELD_INVALID") for n in (0, 2, 3)],
    ),
    ({"recipients": [TO, OTHER, TO]}, [("recipients[2]", "FIELD_INVALID")]),
    ({"values": {"nmae": "Ada"}}, [("values.nmae", "FIELD_UNKNOWN")]),
    ({"values": {"ada@example.com": "x"}}, [("values", "FIELD_UNKNOWN")]),
    ({"values": {"name": "ä" * 2_049}}, [("values.name", "FIELD_TOO_LONG")]),
    ({"values": {"name": "a\0b"}}, [("values.name", "FIELD_INVALID")]),
    (
        {"recipients": ["x"], "values": {"nmae": "Ada"}},
        [("recipients[0]", "FIELD_INVALID"), ("values.nmae", "FIELD_UNKNOWN")],
    ),
    (
        {"values": {f"v{n:02}": "x" for n in range(50)}},
        [(f"values.v{n:02}", "FIELD_UNKNOWN") for n in range(20)],
    ),
    ({"request_id": "7"}, [("request_id", "FIELD_INVALID")]),
]


@pytest.mark.parametrize(("fields", "violations"), BAD_REQUESTS)
async def test_a_request_that_breaks_rules_sends_nothing(
    rig: TrialRig, fields: dict[str, Any], violations: list[tuple[str, str]]
) -> None:
    campaign = await rig.service.ready(rig.owner)
    before = await rig.service.dump()
    async with refused("INVALID_REQUEST", *violations) as caught:
        await rig.send(campaign.id, **fields)
    assert TO not in str(caught["error"])
    assert await rig.service.dump() == before


async def test_a_value_may_be_as_long_as_a_contacts_field(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner, body="{{name}}")
    answer = await rig.sent(campaign.id, values={"name": "ä" * 1_600 + "a" * 896})
    # Too long for an SMS, mark or no mark: that is the sender's to find, as in a run.
    assert (await rig.content(answer.id)).sms.body == "{{name}}"
    full = await rig.sent(campaign.id, values={"name": "a" * 1_593})
    assert (await rig.content(full.id)).sms.body == "[Test] {{name}}"
    over = await rig.sent(campaign.id, values={"name": "a" * 1_594})
    assert (await rig.content(over.id)).sms.body == "{{name}}"


async def test_the_template_has_to_be_valid(rig: TrialRig) -> None:
    campaign = await rig.owner.create("Hi {{name")
    async with refused("ACTION_NOT_ALLOWED", ("campaign.sms.body", "TEMPLATE_MALFORMED")) as caught:
        await rig.send(campaign.id)
    metadata = caught["error"].metadata
    assert (metadata["why"], metadata["action"]) == ("TEMPLATE_INVALID", "TEST_SEND")
    empty = await rig.owner.create("")
    async with refused("ACTION_NOT_ALLOWED", ("campaign.sms.body", "TEMPLATE_EMPTY")):
        await rig.send(empty.id)
    assert await rig.rows() == []


async def test_the_channel_has_to_be_configured(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    await rig.service.pool.execute("DELETE FROM provider_account")
    async with refused("CHANNEL_NOT_CONFIGURED"):
        await rig.send(campaign.id)
    assert await rig.rows() == []


async def test_what_is_not_there_is_not_found(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    test = await rig.sent(campaign.id)
    stranger = await rig.service.tenant()
    async with refused("CAMPAIGN_NOT_FOUND"):
        await rig.send(campaign.id, tenant=stranger)
    async with refused("CAMPAIGN_NOT_FOUND"):
        await rig.send(str(uuid4()))
    async with refused("CAMPAIGN_NOT_FOUND"):  # no test of a test
        await rig.send(test.id)
    async with refused("TEST_SEND_NOT_FOUND"):
        await rig.get(test.id, tenant=stranger)
    async with refused("TEST_SEND_NOT_FOUND"):
        await rig.get(campaign.id)
    async with refused("TEST_SEND_NOT_FOUND"):
        await rig.get(str(uuid4()))
    async with refused("INVALID_REQUEST", ("id", "FIELD_REQUIRED")):
        await rig.get("")
    assert len(await rig.rows()) == 1


async def test_so_many_are_under_way_at_a_time(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    rig.service.parts.test_sends._answer_seconds_max = 0.0
    answers = await asyncio.gather(
        *(rig.send(campaign.id) for _ in range(UNDER_WAY_MAX + 3)), return_exceptions=True
    )
    refusals = [answer for answer in answers if isinstance(answer, OutreachError)]
    assert [refusal.reason for refusal in refusals] == ["TEST_SENDS_BUSY"] * 3
    assert refusals[0].metadata["under_way_max"] == str(UNDER_WAY_MAX)
    assert len(await rig.rows()) == UNDER_WAY_MAX
    other = await rig.service.tenant()
    elsewhere = await rig.service.ready(other)
    assert statuses(await rig.send(elsewhere.id, tenant=other)) == ["QUEUED"]
    # A receipt that is awaited keeps nobody from the next test.
    first = (await rig.rows())[0]["id"]
    (message,) = await rig.claim(first)
    await rig.report(first, accepted(message))
    assert statuses(await rig.send(campaign.id)) == ["QUEUED"]
    async with refused("TEST_SENDS_BUSY"):
        await rig.send(campaign.id)


async def test_a_content_that_is_edited_meanwhile_is_sent_as_it_was(rig: TrialRig) -> None:
    campaign = await rig.service.ready(rig.owner)
    rig.service.parts.test_sends._answer_seconds_max = 0.0
    answer = await rig.send(campaign.id)
    content = await rig.content(answer.id)
    await rig.owner.call(
        rig.owner.campaigns.UpdateCampaign,
        campaign_pb2.UpdateCampaignRequest(
            campaign=campaign_pb2.Campaign(
                id=campaign.id, sms=campaign_pb2.SmsContent(body="Another {{name}}")
            ),
            update_mask=FieldMask(paths=["sms.body"]),
        ),
    )
    assert await rig.content(answer.id) == content

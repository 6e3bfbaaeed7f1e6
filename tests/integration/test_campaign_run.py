"""Running a campaign: the channel, the disclaimer, repeated requests; and what comes before a run."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.errors import OutreachError
from outreach.recipients import recipient_hash
from outreach.v1 import campaign_pb2, message_pb2
from outreach.vocabulary import Channel, FailureReason
from services.campaign.store.requests import purge_request_log
from tests.campaign_service import Service, Tenant, campaign_service, recipient, refused

IN_PROGRESS = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


async def test_a_run_takes_the_channel_and_queues_every_message(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=3)
    ran = await tenant.run(campaign.id)
    assert (ran.status, ran.run, ran.revision) == (IN_PROGRESS, 1, campaign.revision + 1)
    assert (ran.counts.waiting, ran.counts.queued, ran.counts.total) == (0, 3, 3)
    assert ran.HasField("start_time")
    assert not ran.HasField("end_time")
    row = await service.pool.fetchrow("SELECT * FROM campaign")
    assert (row["holds_channel"], row["undispatched"], row["dispatched_through"]) == (True, 3, 0)
    accepted = await service.pool.fetchrow("SELECT * FROM disclaimer_acceptance")
    assert accepted["campaign_id"] == UUID(campaign.id)
    assert (accepted["run"], accepted["accepted_by"]) == (1, "key of CAMPAIGNER")
    assert accepted["version"] == await tenant.disclaimer_version()
    log = await service.pool.fetchrow("SELECT * FROM change_log ORDER BY revision DESC LIMIT 1")
    assert (log["campaign_status"], log["counts"][:2], log["numbers"]) == (3, [0, 3], [])


async def test_messages_are_waiting_until_the_run_and_queued_after_it(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=2)

    async def listed(**where: Any) -> list[tuple[int, str, int]]:
        request = message_pb2.ListMessagesRequest(
            campaign_id=campaign.id, filter=message_pb2.MessageFilter(**where)
        )
        page = await tenant.call(tenant.messages.ListMessages, request)
        return [
            (m.number, message_pb2.MessageStatus.Name(m.status)[15:], m.run) for m in page.messages
        ]

    waiting, queued = message_pb2.MESSAGE_STATUS_WAITING, message_pb2.MESSAGE_STATUS_QUEUED
    assert await listed() == [(1, "WAITING", 0), (2, "WAITING", 0)]
    assert await listed(statuses=[waiting]) == [(1, "WAITING", 0), (2, "WAITING", 0)]
    assert await listed(statuses=[queued]) == []
    await tenant.run(campaign.id)
    assert await listed(statuses=[queued], run=1) == [(1, "QUEUED", 1), (2, "QUEUED", 1)]
    assert await listed(statuses=[waiting]) == []
    request = message_pb2.GetMessageRequest(campaign_id=campaign.id, number=2)
    message = await tenant.call(tenant.messages.GetMessage, request)
    assert (message.recipient, dict(message.variables)) == (recipient(2), {"name": "Name 1"})
    start = (await tenant.get(campaign.id)).start_time
    assert message.update_time.ToDatetime() >= start.ToDatetime()


async def test_fifty_runs_at_once_have_one_winner_that_the_others_name(service: Service) -> None:
    tenant = await service.tenant()
    campaigns = [await service.ready(tenant, contacts=1) for _ in range(50)]
    outcomes = await asyncio.gather(
        *(tenant.run(campaign.id) for campaign in campaigns), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, campaign_pb2.Campaign)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, OutreachError)]
    assert (len(won), len(lost)) == (1, 49)
    assert {(e.reason, e.metadata["running_campaign_id"]) for e in lost} == {
        ("CHANNEL_BUSY", won[0].id)
    }
    statuses = await service.pool.fetch(
        "SELECT status, count(*) FROM campaign GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in statuses] == [(2, 49), (3, 1)]
    assert await service.pool.fetchval("SELECT count(*) FROM disclaimer_acceptance") == 1


async def test_fifty_runs_of_one_campaign_are_one_run(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    outcomes = await asyncio.gather(
        *(tenant.run(campaign.id) for _ in range(50)), return_exceptions=True
    )
    lost = [outcome for outcome in outcomes if isinstance(outcome, OutreachError)]
    assert {(e.reason, e.metadata["status"]) for e in lost} == {
        ("ACTION_NOT_ALLOWED", "IN_PROGRESS")
    }
    assert len(lost) == 49
    assert await service.pool.fetchval("SELECT run FROM campaign") == 1


async def test_a_channel_is_one_organisations_own(service: Service) -> None:
    for tenant in (await service.tenant(), await service.tenant()):
        campaign = await service.ready(tenant)
        assert (await tenant.run(campaign.id)).status == IN_PROGRESS


async def test_a_run_without_the_disclaimer_is_refused(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    before = await service.dump()
    async with refused("DISCLAIMER_NOT_ACCEPTED"):
        await tenant.run(campaign.id, accepted_disclaimer_version="")
    async with refused("DISCLAIMER_OUTDATED"):
        await tenant.run(campaign.id, accepted_disclaimer_version="an older one")
    assert await service.dump() == before


async def test_the_disclaimer_has_four_points(service: Service) -> None:
    tenant = await service.tenant()
    disclaimer = await tenant.call(
        tenant.campaigns.GetDisclaimer, campaign_pb2.GetDisclaimerRequest()
    )
    assert len(disclaimer.points) == 4
    whole = "\n".join(disclaimer.points).encode()
    assert disclaimer.version == hashlib.sha256(whole).hexdigest()[:16]


async def test_a_run_that_the_state_forbids_says_why(service: Service) -> None:
    tenant = await service.tenant()
    empty = await tenant.create()
    async with refused("ACTION_NOT_ALLOWED") as caught:
        await tenant.run(empty.id)
    assert caught["error"].metadata["why"] == "CONTACTS_MISSING"
    assert caught["error"].metadata["allowed_statuses"] == "READY"
    unknown = await service.ready(tenant, body="Hi {{city}}")
    before = await service.dump()
    async with refused(
        "ACTION_NOT_ALLOWED", ("campaign.sms.body", "TEMPLATE_UNKNOWN_PLACEHOLDER")
    ) as caught:
        await tenant.run(unknown.id)
    assert caught["error"].metadata["why"] == "TEMPLATE_INVALID"
    assert await service.dump() == before
    good = await service.ready(tenant)
    await tenant.run(good.id)
    before = await service.dump()
    async with refused("ACTION_NOT_ALLOWED") as caught:
        await tenant.run(good.id)
    assert caught["error"].metadata["status"] == "IN_PROGRESS"
    assert await service.dump() == before


async def test_credentials_that_are_gone_stop_a_run(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    await service.pool.execute("DELETE FROM provider_account")
    async with refused("CHANNEL_NOT_CONFIGURED"):
        await tenant.run(campaign.id)


async def test_validate_only_checks_everything_and_runs_nothing(service: Service) -> None:
    tenant = await service.tenant()
    first, second = await service.ready(tenant), await service.ready(tenant)
    before = await service.dump()
    answer = await tenant.run(first.id, validate_only=True)
    assert answer == first
    async with refused("DISCLAIMER_NOT_ACCEPTED"):
        await tenant.run(first.id, validate_only=True, accepted_disclaimer_version="")
    assert await service.dump() == before
    await tenant.run(first.id)
    async with refused("CHANNEL_BUSY") as caught:
        await tenant.run(second.id, validate_only=True)
    assert caught["error"].metadata["running_campaign_id"] == first.id


async def test_a_repeated_request_gets_the_first_answer_and_does_nothing(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    request_id = str(uuid4())
    first = await tenant.run(campaign.id, request_id=request_id)
    before = await service.dump()
    assert await tenant.run(campaign.id, request_id=request_id) == first
    assert await service.dump() == before


async def test_the_same_request_many_times_at_once_is_done_once(service: Service) -> None:
    tenant = await service.tenant()
    request = campaign_pb2.CreateCampaignRequest(
        campaign=(await tenant.create()), request_id=str(uuid4())
    )
    answers = await asyncio.gather(
        *(tenant.call(tenant.campaigns.CreateCampaign, request) for _ in range(20))
    )
    assert len({answer.id for answer in answers}) == 1
    assert await service.pool.fetchval("SELECT count(*) FROM campaign") == 2


async def test_a_request_id_of_another_request_is_refused(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    request_id = str(uuid4())

    async def update(name: str) -> Any:
        request = campaign_pb2.UpdateCampaignRequest(
            campaign=campaign_pb2.Campaign(id=campaign.id, name=name),
            update_mask=FieldMask(paths=["name"]),
            request_id=request_id,
        )
        return await tenant.call(tenant.campaigns.UpdateCampaign, request)

    changed = await update("B")
    before = await service.dump()
    async with refused("REQUEST_ID_REUSED"):
        await update("C")
    async with refused("REQUEST_ID_REUSED"):
        await tenant.run(campaign.id, request_id=request_id)
    assert await update("B") == changed
    assert await service.dump() == before
    # An id is the organisation's own.
    stranger = await service.tenant()
    theirs = await service.ready(stranger)
    assert (await stranger.run(theirs.id, request_id=request_id)).run == 1


async def test_a_refused_request_is_decided_anew(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant)
    request_id = str(uuid4())
    fields = {"request_id": request_id, "accepted_disclaimer_version": ""}
    async with refused("DISCLAIMER_NOT_ACCEPTED"):
        await tenant.run(campaign.id, **fields)
    assert (await tenant.run(campaign.id, request_id=request_id)).run == 1


async def test_answers_are_kept_for_a_day(service: Service) -> None:
    tenant = await service.tenant()
    request_id = str(uuid4())
    request = campaign_pb2.CreateCampaignRequest(
        campaign=(await tenant.create()), request_id=request_id
    )
    first = await tenant.call(tenant.campaigns.CreateCampaign, request)
    await service.pool.execute("UPDATE request_log SET create_time = now() - interval '25 hours'")
    second = await tenant.call(tenant.campaigns.CreateCampaign, request)
    assert second.id != first.id
    assert await tenant.call(tenant.campaigns.CreateCampaign, request) == second
    await service.pool.execute("UPDATE request_log SET create_time = now() - interval '23 hours'")
    assert await purge_request_log(service.pool) == 0
    await service.pool.execute("UPDATE request_log SET create_time = now() - interval '25 hours'")
    assert await purge_request_log(service.pool) == 1


async def _with_contacts(
    service: Service, tenant: Tenant, body: str, variables: list[list[str | None]], **fields: Any
) -> campaign_pb2.Campaign:
    campaign = await tenant.create(body, **fields)
    await service.put_contacts(tenant, campaign.id, variables)
    return await tenant.get(campaign.id)


async def test_a_preview_is_the_message_of_one_contact(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await _with_contacts(
        service, tenant, "Hi {{name}} {{city|Bern}}€", [["Ada"], [None]]
    )

    async def preview(**who: Any) -> campaign_pb2.PreviewCampaignResponse:
        request = campaign_pb2.PreviewCampaignRequest(id=campaign.id, **who)
        answer: campaign_pb2.PreviewCampaignResponse = await tenant.call(
            tenant.campaigns.PreviewCampaign, request
        )
        return answer

    first = await preview(message_number=1)
    assert (first.sms.text, list(first.missing_variables)) == ("Hi Ada Bern€", [])
    assert (first.sms.size.units, first.sms.size.segments) == (13, 1)
    assert first.sms.size.encoding == campaign_pb2.SMS_ENCODING_GSM_7
    second = await preview(message_number=2)
    assert (second.sms.text, list(second.missing_variables)) == ("Hi {{name}} Bern€", ["name"])
    made_up = await preview(
        values=campaign_pb2.PreviewValues(variables={"name": "日本", "city": "X"})
    )
    assert made_up.sms.text == "Hi 日本 X€"
    assert made_up.sms.size.encoding == campaign_pb2.SMS_ENCODING_UCS_2
    async with refused("MESSAGE_NOT_FOUND"):
        await preview(message_number=3)
    async with refused("INVALID_REQUEST", ("message_number", "FIELD_OUT_OF_RANGE")):
        await preview(message_number=-1)
    draft = await tenant.create("Hi {{name")
    request = campaign_pb2.PreviewCampaignRequest(id=draft.id)
    async with refused("ACTION_NOT_ALLOWED", ("campaign.sms.body", "TEMPLATE_MALFORMED")):
        await tenant.call(tenant.campaigns.PreviewCampaign, request)


async def test_an_estimate_says_what_a_run_would_do(service: Service) -> None:
    tenant = await service.tenant(
        segments_per_second_max=2.0, price_per_segment_micros=7_500, currency_code="EUR"
    )
    contacts: list[list[str | None]] = [["Ada"], [None], ["x" * 200], ["y" * 1_600], ["gone"]]
    campaign = await _with_contacts(service, tenant, "Hi {{name}}", contacts)
    await service.pool.execute(
        "INSERT INTO suppression VALUES ($1, 1, $2, true, 'reply', now()), "
        "($1, 1, $3, false, 'reply', now())",
        tenant.organisation_id,
        recipient_hash(service.recipient_key, Channel.SMS, recipient(5)),
        recipient_hash(service.recipient_key, Channel.SMS, recipient(1)),
    )
    request = campaign_pb2.EstimateCampaignRequest(id=campaign.id)
    estimate = await tenant.call(tenant.campaigns.EstimateCampaign, request)
    assert (estimate.to_send, estimate.suppressed, estimate.too_long) == (3, 1, 1)
    assert (estimate.missing_variables, estimate.skipped) == (1, 0)
    assert dict(estimate.missing_by_variable) == {"name": 1}
    sms = estimate.sms
    assert (sms.segments_min, sms.segments_max, sms.segments_total) == (1, 2, 4)
    assert sms.segments_mean == pytest.approx(4 / 3)
    assert (sms.cost.currency_code, sms.cost.amount_micros) == ("EUR", 30_000)
    assert sms.sending_time.ToMilliseconds() == 2_000
    assert sms.template.segments == 1


async def test_an_estimate_reads_every_batch(service: Service) -> None:
    tenant = await service.tenant()
    contacts: list[list[str | None]] = [[f"N{n}" if n % 2 else None] for n in range(4_500)]
    campaign = await _with_contacts(
        service,
        tenant,
        "Hi {{name}}",
        contacts,
        missing_variable_policy=campaign_pb2.MISSING_VARIABLE_POLICY_SKIP,
    )
    request = campaign_pb2.EstimateCampaignRequest(id=campaign.id)
    estimate = await tenant.call(tenant.campaigns.EstimateCampaign, request)
    assert (estimate.to_send, estimate.skipped) == (2_250, 2_250)
    assert not estimate.sms.HasField("cost")
    assert not estimate.sms.HasField("sending_time")


async def test_the_mean_of_segments_is_measured_for_the_run(service: Service) -> None:
    tenant = await service.tenant()
    contacts: list[list[str | None]] = [["x" * (10 if n % 2 else 200)] for n in range(3_000)]
    campaign = await _with_contacts(service, tenant, "{{name}}", contacts)
    await tenant.run(campaign.id)
    mean = await service.pool.fetchval("SELECT segments_mean FROM campaign")
    assert mean == pytest.approx(1.5, abs=0.01)


async def test_messages_are_listed_by_filter_and_page(service: Service) -> None:
    tenant = await service.tenant()
    campaign = await service.ready(tenant, contacts=10)
    await tenant.run(campaign.id)
    await service.pool.execute(
        "UPDATE message SET status = 8, failure_reason = $1, attempt = 1, run = 1, "
        "provider_code = '30003' WHERE number > 7",
        FailureReason.UNREACHABLE,
    )
    await service.pool.execute("UPDATE campaign SET queued = 7, failed = 3")

    async def page(token: str = "", size: int = 4, **where: Any) -> tuple[list[int], str]:
        request = message_pb2.ListMessagesRequest(
            campaign_id=campaign.id,
            page_size=size,
            page_token=token,
            filter=message_pb2.MessageFilter(**where),
        )
        answer = await tenant.call(tenant.messages.ListMessages, request)
        return [message.number for message in answer.messages], answer.next_page_token

    first, token = await page()
    second, token = await page(token)
    third, end = await page(token)
    assert (first + second + third, end) == (list(range(1, 11)), "")
    failed = message_pb2.MESSAGE_STATUS_FAILED
    assert await page(statuses=[failed]) == ([8, 9, 10], "")
    assert await page(failure_reasons=[FailureReason.UNREACHABLE]) == ([8, 9, 10], "")
    assert await page(failure_reasons=[FailureReason.OTHER]) == ([], "")
    assert await page(recipient=recipient(5)) == ([5], "")
    assert await page(recipient="+4112345678") == ([], "")
    assert await page(run=2) == ([], "")
    async with refused("PAGE_TOKEN_INVALID"):
        await page(token, statuses=[failed])
    for where, size, field in (
        ({"statuses": [99]}, 1, ("filter.statuses[0]", "FIELD_INVALID")),
        ({"run": -1}, 1, ("filter.run", "FIELD_OUT_OF_RANGE")),
        ({}, 1_001, ("page_size", "FIELD_OUT_OF_RANGE")),
    ):
        async with refused("INVALID_REQUEST", field):
            await page(size=size, **where)
    request = message_pb2.GetMessageRequest(campaign_id=campaign.id, number=8)
    message = await tenant.call(tenant.messages.GetMessage, request)
    assert (message.provider_code, message.retryable, message.attempt) == ("30003", True, 1)
    async with refused("MESSAGE_NOT_FOUND"):
        request = message_pb2.GetMessageRequest(campaign_id=campaign.id, number=11)
        await tenant.call(tenant.messages.GetMessage, request)


async def test_a_page_is_never_larger_than_a_message_may_be(service: Service) -> None:
    tenant = await service.tenant()
    contacts: list[list[str | None]] = [["x" * 4_096] for _ in range(1_000)]
    campaign = await _with_contacts(service, tenant, "Hi", contacts)
    request = message_pb2.ListMessagesRequest(campaign_id=campaign.id, page_size=1_000)
    first = await tenant.call(tenant.messages.ListMessages, request)
    assert 500 < len(first.messages) < 1_000
    request.page_token = first.next_page_token
    second = await tenant.call(tenant.messages.ListMessages, request)
    assert len(first.messages) + len(second.messages) == 1_000
    assert second.messages[0].number == first.messages[-1].number + 1

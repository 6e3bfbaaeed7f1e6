"""Retrying messages: which ones, what it needs, and what stays as it was when it is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import campaign_pb2
from outreach.v1.message_pb2 import MESSAGE_STATUS_DELIVERED, MESSAGE_STATUS_OPTED_OUT
from outreach.vocabulary import Channel, FailureReason
from services.campaign.domain.failures import POINTLESS
from services.campaign.store import retries
from tests.campaign_service import Service, Tenant, campaign_service, refused
from tests.run_rig import (
    CANCELLED,
    FAILED,
    Runs,
    S,
    begun,
    half_failed,
    stopped_half_way,
    told,
)

COMPLETE = campaign_pb2.CAMPAIGN_STATUS_COMPLETE
WITH_ERRORS = campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS
IN_PROGRESS = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
R = FailureReason


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


@pytest.fixture
async def tenant(service: Service) -> Tenant:
    return await service.tenant()


async def dump(service: Service) -> dict[str, list[Any]]:
    """Everything, with the attempts that are kept."""
    kept = await service.pool.fetch("SELECT * FROM message_attempt ORDER BY 1, 2, 3")
    return {**await service.dump(), "message_attempt": [tuple(row) for row in kept]}


async def test_a_retry_of_all_failed_is_a_run_of_these(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 4)
    before = await runs.get()
    assert before.status == WITH_ERRORS
    answer = await runs.retry()
    assert (answer.retried, answer.not_retryable) == (2, 0)
    campaign = answer.campaign
    assert (campaign.status, campaign.run, campaign.etag) == (IN_PROGRESS, 2, before.etag)
    assert (campaign.counts.queued, campaign.counts.failed, campaign.counts.delivered) == (2, 0, 2)
    assert not campaign.HasField("end_time")
    assert await runs.get() == campaign
    row = await service.pool.fetchrow("SELECT * FROM campaign")
    assert (row["holds_channel"], row["undispatched"], row["dispatched_through"]) == (True, 2, 0)
    assert (row["dispatch_epoch"], row["dispatch_time"], row["claim_time"]) == (0, None, None)
    accepted = await service.pool.fetch("SELECT * FROM disclaimer_acceptance ORDER BY run")
    assert [(row["run"], row["accepted_by"]) for row in accepted] == [
        (1, "key of CAMPAIGNER"),
        (2, "key of CAMPAIGNER"),
    ]
    # The old run's jobs find nothing; the new one's only what is queued again.
    assert (await runs.delivery.claim(runs.running, 10)).state == pb.CLAIM_STATE_NOT_RUNNING
    assert await runs.claim(run=2) == {1: 2, 2: 2}
    await runs.deliver({1: 2, 2: 2})
    ended = await runs.get()
    assert (ended.status, ended.counts.delivered) == (COMPLETE, 4)


async def test_a_late_report_about_an_earlier_attempt_changes_nothing_of_this_one(
    service: Service, tenant: Tenant
) -> None:
    """What it does change: test_late_evidence.py."""
    runs = await half_failed(service, tenant, 2)
    await runs.retry(1)
    assert await runs.claim(run=2) == {1: 2}
    await runs.deliver({1: 1})
    await runs.report({1: 1}, pb.OUTCOME_HANDED_BACK)
    assert (await runs.statuses())[1] is S.SENDING
    await runs.fail({1: 2})
    assert (await runs.get()).counts.failed == 1


async def test_a_retry_of_the_cancelled_resumes(service: Service, tenant: Tenant) -> None:
    runs = await stopped_half_way(service, tenant, 6)
    assert (await runs.get()).status == COMPLETE
    async with refused("NOTHING_TO_RETRY") as caught:
        await runs.retry()
    assert told(caught) == {"not_retryable": "0"}
    answer = await runs.retry(statuses=[CANCELLED])
    assert answer.retried == 3
    assert not answer.campaign.HasField("stop_time")
    assert await runs.claim(run=2) == {4: 1, 5: 1, 6: 1}, "they never had an attempt"
    # Stopped and resumed once more, with one that was handed back meanwhile.
    await runs.report({4: 1}, pb.OUTCOME_HANDED_BACK)
    await runs.stop()
    await runs.cancel()
    await runs.deliver({5: 1, 6: 1})
    assert (await runs.retry(statuses=[CANCELLED])).retried == 1
    assert await runs.claim(run=3) == {4: 2}
    await runs.deliver({4: 2})
    ended = await runs.get()
    assert (ended.status, ended.run, ended.counts.delivered) == (COMPLETE, 3, 6)
    assert await service.pool.fetchval("SELECT count(*) FROM message_attempt") == 0


async def test_single_messages_are_retried_by_number(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 6)
    answer = await runs.retry(3, 1)
    assert (answer.retried, answer.campaign.counts.failed) == (2, 1)
    assert [n for n, status in (await runs.statuses()).items() if status is S.QUEUED] == [1, 3]


async def test_reasons_choose_among_the_failed(service: Service, tenant: Tenant) -> None:
    runs = await begun(service, tenant, 4)
    attempts = await runs.claim()
    for number, reason in enumerate((R.UNREACHABLE, R.RATE_LIMITED, R.EXPIRED_IN_QUEUE), 1):
        await runs.fail({number: attempts[number]}, reason)
    await runs.deliver({4: attempts[4]})
    answer = await runs.retry(reasons=[R.RATE_LIMITED, R.EXPIRED_IN_QUEUE])
    assert answer.retried == 2
    assert [n for n, status in (await runs.statuses()).items() if status is S.QUEUED] == [2, 3]


async def test_pointless_reasons_are_left_unless_forced(service: Service, tenant: Tenant) -> None:
    reasons = [*sorted(POINTLESS), R.UNREACHABLE]
    runs = await begun(service, tenant, len(reasons))
    attempts = await runs.claim()
    for number, reason in enumerate(reasons, 1):
        await runs.fail({number: attempts[number]}, reason)
    before = await dump(service)
    async with refused("MESSAGE_NOT_RETRYABLE") as caught:
        await runs.retry(*range(1, len(reasons) + 1))
    metadata = caught["error"].metadata
    assert metadata["count"] == str(len(POINTLESS))
    assert metadata["numbers"] == ",".join(str(n) for n in range(1, len(POINTLESS) + 1))
    assert metadata["why"] == ",".join(reason.name for reason in sorted(POINTLESS))
    async with refused("NOTHING_TO_RETRY") as caught:
        await runs.retry(reasons=[R.UNCONFIRMED, R.INVALID_RECIPIENT])
    assert told(caught) == {"not_retryable": "2"}
    assert await dump(service) == before
    checked = await runs.retry(validate_only=True)
    assert (checked.retried, checked.not_retryable) == (1, len(POINTLESS))
    forced = await runs.retry(force=True, validate_only=True)
    assert (forced.retried, forced.not_retryable) == (len(reasons), 0)
    assert await dump(service) == before
    assert (await runs.retry(1, force=True)).retried == 1


async def test_opted_out_messages_are_never_retried(service: Service, tenant: Tenant) -> None:
    runs = await begun(service, tenant, 3)
    attempts = await runs.claim()
    await runs.report({1: attempts[1]}, pb.OUTCOME_OPTED_OUT, provider_code="21610")
    await runs.fail({2: attempts[2]})
    await runs.deliver({3: attempts[3]})
    before = await dump(service)
    for number, why in ((1, "OPTED_OUT"), (3, "DELIVERED")):
        async with refused("MESSAGE_NOT_RETRYABLE") as caught:
            await runs.retry(number, 2, force=True)
        assert told(caught) == {"count": "1", "numbers": str(number), "why": why}
    field = "filter.statuses[0]"
    for status in (MESSAGE_STATUS_OPTED_OUT, MESSAGE_STATUS_DELIVERED):
        async with refused("INVALID_REQUEST", (field, "FIELD_INVALID")):
            await runs.retry(statuses=[status], force=True)
    assert await dump(service) == before
    assert (await runs.retry(force=True)).retried == 1
    assert (await runs.statuses())[1] is S.OPTED_OUT


async def test_who_opted_out_since_is_not_sent_to(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 4)
    recipient_hash = await service.pool.fetchval(
        "SELECT recipient_hash FROM contact ORDER BY number LIMIT 1"
    )
    await service.pool.execute(
        "INSERT INTO suppression (organisation_id, channel, recipient_hash, suppressed, source, event_time) "
        "VALUES ($1, 1, $2, true, 'reply', now())",
        tenant.organisation_id,
        recipient_hash,
    )
    await runs.retry()
    assert await runs.claim(run=2) == {2: 2}
    assert (await runs.statuses())[1] is S.OPTED_OUT
    timeline = await runs.timeline(1)
    assert [(a.attempt, a.status) for a in timeline.attempts] == [(1, FAILED)]


async def test_twenty_of_many_numbers_are_told(service: Service, tenant: Tenant) -> None:
    runs = await begun(service, tenant, 60)
    attempts = await runs.claim()
    await runs.fail({n: a for n, a in attempts.items() if n > 50})
    await runs.deliver({n: a for n, a in attempts.items() if n <= 50})
    async with refused("MESSAGE_NOT_RETRYABLE") as caught:
        await runs.retry(*range(1, 61))
    metadata = caught["error"].metadata
    assert (metadata["count"], len(metadata["numbers"].split(","))) == ("50", 20)
    assert "and 30 more" in caught["error"].text


async def test_a_number_of_another_campaign_is_none_of_this_one(
    service: Service, tenant: Tenant
) -> None:
    larger = await half_failed(service, tenant, 6)
    assert (await larger.timeline(3)).message.status == FAILED
    runs = await half_failed(service, tenant, 2)
    before = await dump(service)
    async with refused("INVALID_REQUEST", ("numbers.numbers[1]", "FIELD_OUT_OF_RANGE")) as caught:
        await runs.retry(1, 3)
    assert "1 to 2" in caught["error"].violations[0].text
    async with refused("INVALID_REQUEST", ("numbers.numbers[0]", "FIELD_OUT_OF_RANGE")):
        await runs.retry(-1)
    assert await dump(service) == before
    assert {*(await larger.statuses()).values()} == {S.FAILED, S.DELIVERED}


async def test_requests_that_say_nothing_or_nonsense(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 2)
    version = await tenant.disclaimer_version()

    async def ask(**fields: Any) -> None:
        request = campaign_pb2.RetryMessagesRequest(
            campaign_id=runs.id, accepted_disclaimer_version=version, **fields
        )
        await tenant.call(tenant.campaigns.RetryMessages, request)

    numbers = campaign_pb2.MessageNumbers
    async with refused("INVALID_REQUEST", ("messages", "FIELD_REQUIRED")):
        await ask()
    async with refused("INVALID_REQUEST", ("numbers.numbers", "FIELD_REQUIRED")):
        await ask(numbers=numbers())
    async with refused("INVALID_REQUEST", ("numbers.numbers[2]", "FIELD_INVALID")):
        await ask(numbers=numbers(numbers=[1, 2, 1]))
    async with refused("INVALID_REQUEST", ("numbers.numbers", "FIELD_TOO_LONG")):
        await ask(numbers=numbers(numbers=range(1, 10_002)))
    async with refused("INVALID_REQUEST", ("filter.failure_reasons", "FIELD_INVALID")):
        await runs.retry(statuses=[CANCELLED], reasons=[R.UNREACHABLE])
    async with refused("INVALID_REQUEST", ("campaign_id", "FIELD_REQUIRED")):
        await Runs(service, tenant, "", 2).retry()
    assert (await runs.get()).run == 1


async def test_a_retry_needs_the_disclaimer(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant)
    before = await dump(service)
    async with refused("DISCLAIMER_NOT_ACCEPTED"):
        await runs.retry(accepted_disclaimer_version="")
    async with refused("DISCLAIMER_OUTDATED"):
        await runs.retry(accepted_disclaimer_version="an older one")
    assert await dump(service) == before


async def test_a_retry_with_another_etag_is_refused(service: Service, tenant: Tenant) -> None:
    campaign = await service.ready(tenant, contacts=1)
    stale = campaign.etag
    renamed = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=campaign.id, name="Winter"),
        update_mask=FieldMask(paths=["name"]),
    )
    await tenant.call(tenant.campaigns.UpdateCampaign, renamed)
    await tenant.run(campaign.id)
    runs = Runs(service, tenant, campaign.id, 1)
    await runs.fail(await runs.claim())
    before = await dump(service)
    async with refused("ETAG_MISMATCH"):
        await runs.retry(etag=stale)
    assert await dump(service) == before
    current = (await runs.get()).etag
    assert (await runs.retry(etag=current)).retried == 1


async def test_a_repeated_retry_is_one_run(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant)
    request_id = str(uuid4())
    first = await runs.retry(request_id=request_id)
    assert await runs.retry(request_id=request_id) == first
    assert (await runs.get()).run == 2
    async with refused("REQUEST_ID_REUSED"):
        await runs.retry(1, request_id=request_id)


async def test_validate_only_counts_and_changes_nothing(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 6)
    before = await dump(service)
    shown = await runs.get()
    answer = await runs.retry(validate_only=True)
    assert (answer.retried, answer.campaign) == (3, shown)
    answer = await runs.retry(1, 2, validate_only=True)
    assert answer.retried == 2
    assert await dump(service) == before
    other = await begun(service, tenant)
    async with refused("CHANNEL_BUSY") as caught:
        await runs.retry(validate_only=True)
    assert caught["error"].metadata["running_campaign_id"] == other.id


async def test_a_retry_while_another_campaign_runs_names_it(
    service: Service, tenant: Tenant
) -> None:
    runs = await half_failed(service, tenant)
    other = await begun(service, tenant)
    before = await dump(service)
    async with refused("CHANNEL_BUSY") as caught:
        await runs.retry()
    assert told(caught) == {"running_campaign_id": other.id, "channel": "SMS"}
    assert await dump(service) == before
    await other.deliver(await other.claim())
    assert (await runs.retry()).retried == 2
    waiting = await service.ready(tenant)
    async with refused("CHANNEL_BUSY") as caught:
        await tenant.run(waiting.id)
    assert caught["error"].metadata["running_campaign_id"] == runs.id


async def test_fifty_runs_and_retries_at_once_have_one_winner(
    service: Service, tenant: Tenant
) -> None:
    retried = [await half_failed(service, tenant, 2) for _ in range(25)]
    ready = [await service.ready(tenant, contacts=1) for _ in range(25)]
    version = await tenant.disclaimer_version()
    outcomes = await asyncio.gather(
        *(runs.retry(accepted_disclaimer_version=version) for runs in retried),
        *(tenant.run(campaign.id) for campaign in ready),
        return_exceptions=True,
    )
    lost = [outcome for outcome in outcomes if isinstance(outcome, OutreachError)]
    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert (len(won), len(lost)) == (1, 49)
    (winner,) = await service.pool.fetch("SELECT id FROM campaign WHERE holds_channel")
    assert {(e.reason, e.metadata["running_campaign_id"]) for e in lost} == {
        ("CHANNEL_BUSY", str(winner["id"]))
    }
    kept = await service.pool.fetch("SELECT DISTINCT campaign_id FROM message_attempt")
    assert {row["campaign_id"] for row in kept} <= {winner["id"]}, "who lost changed nothing"


async def test_fifty_retries_of_one_campaign_are_one(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 4)
    outcomes = await asyncio.gather(*(runs.retry() for _ in range(50)), return_exceptions=True)
    lost = [outcome for outcome in outcomes if isinstance(outcome, OutreachError)]
    assert len(lost) == 49
    assert Counter((e.reason, e.metadata.get("status")) for e in lost) == {
        ("ACTION_NOT_ALLOWED", "IN_PROGRESS"): 49
    }
    assert (await runs.get()).run == 2


async def test_only_what_has_ended_with_something_to_retry_is_retried(
    service: Service, tenant: Tenant
) -> None:
    created = await tenant.create()
    ready = await service.ready(tenant)
    complete = await begun(service, tenant, 1)
    await complete.deliver(await complete.claim())
    running = await begun(service, tenant, 1)
    before = await dump(service)
    for campaign_id, status, why in (
        (created.id, "CREATED", "STATUS"),
        (ready.id, "READY", "STATUS"),
        (complete.id, "COMPLETE", "NOTHING_TO_RETRY"),
        (running.id, "IN_PROGRESS", "STATUS"),
    ):
        async with refused("ACTION_NOT_ALLOWED") as caught:
            await Runs(service, tenant, campaign_id, 1).retry()
        metadata = caught["error"].metadata
        assert (metadata["action"], metadata["status"], metadata["why"]) == ("RETRY", status, why)
        assert metadata["allowed_statuses"] == "COMPLETE,COMPLETE_WITH_ERRORS,FAILED"
    assert await dump(service) == before


async def test_a_campaign_whose_account_was_refused_is_resumed(
    service: Service, tenant: Tenant
) -> None:
    runs = await begun(service, tenant, 5)
    attempts = await runs.claim(2)
    await runs.deliver({1: attempts[1]})
    await runs.delivery.fail(runs.running, R.ACCOUNT_PROBLEM)
    await runs.report({2: attempts[2]}, pb.OUTCOME_HANDED_BACK)
    await runs.cancel()
    failed = await runs.get()
    assert failed.status == campaign_pb2.CAMPAIGN_STATUS_FAILED
    assert failed.failure.provider_code == "403"
    assert (failed.counts.delivered, failed.counts.cancelled) == (1, 4)
    # The account's check found the same; with that no retry begins.
    await service.pool.execute("UPDATE provider_account SET check_fault = 'refused'")
    async with refused("CHANNEL_NOT_CONFIGURED"):
        await runs.retry(statuses=[CANCELLED])
    await service.pool.execute("UPDATE provider_account SET check_fault = ''")
    answer = await runs.retry(statuses=[CANCELLED])
    assert (answer.retried, answer.campaign.status) == (4, IN_PROGRESS)
    assert not answer.campaign.HasField("failure")
    # What a sender still says of the refused run does not touch this one.
    await runs.delivery.fail(runs.running, R.ACCOUNT_PROBLEM, run=1)
    again = await runs.claim(run=2)
    assert again == {2: 2, 3: 1, 4: 1, 5: 1}
    await runs.deliver(again)
    assert (await runs.get()).status == COMPLETE


async def test_without_an_account_nothing_is_retried(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant)
    await service.pool.execute("DELETE FROM provider_account")
    before = await dump(service)
    async with refused("CHANNEL_NOT_CONFIGURED"):
        await runs.retry()
    assert await dump(service) == before


async def test_many_messages_are_queued_in_batches_that_add_up(
    service: Service, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "QUEUED_AGAIN_MAX", 30)
    monkeypatch.setattr("services.campaign.usecases.retry_messages.QUEUED_AGAIN_MAX", 30)
    runs = await half_failed(service, tenant, 200)
    before = await runs.get()
    answer = await runs.retry()
    assert answer.retried == 100
    log = await service.pool.fetch(
        "SELECT * FROM change_log WHERE revision > $1 ORDER BY revision", before.revision
    )
    assert [len(row["numbers"]) for row in log] == [0, 30, 30, 30, 10]
    assert [row["revision"] for row in log] == [
        *range(before.revision + 1, answer.campaign.revision + 1)
    ]
    assert [row["counts"][1] for row in log] == [0, 30, 60, 90, 100]
    assert all(sum(row["counts"]) == 200 for row in log)
    assert await service.pool.fetchval("SELECT count(*) FROM message_attempt") == 100
    await runs.fail(await runs.claim(run=2))
    numbers = [*range(1, 101)]
    assert (await runs.retry(*numbers)).retried == 100
    assert await service.pool.fetchval("SELECT count(*) FROM message_attempt") == 200


async def test_look_ups_leave_out_what_an_earlier_attempt_became(
    service: Service, tenant: Tenant
) -> None:
    """Twilio's list knows no attempts: the message of the first must not be taken for the second's."""
    runs = await begun(service, tenant, 1)
    attempts = await runs.claim()
    await runs.report(attempts, pb.OUTCOME_ACCEPTED, provider_message_id="SM1")
    await runs.fail(attempts)
    await runs.retry()
    attempts = await runs.claim(run=2)
    await runs.report(attempts, pb.OUTCOME_UNKNOWN)
    result = await runs.delivery.look_ups.lease(UUID(runs.id), 10)
    (attempt,) = result.attempts
    assert (attempt.message.number, attempt.message.attempt) == (1, 2)
    assert list(attempt.other_provider_message_ids) == ["SM1"]


async def test_claims_say_what_is_tried_once_more(service: Service, tenant: Tenant) -> None:
    runs = await begun(service, tenant, 3)
    attempts = await runs.claim(2)
    await runs.stop()
    await runs.cancel()
    await runs.fail({1: attempts[1]})
    await runs.deliver({2: attempts[2]})
    await runs.retry(statuses=[FAILED, CANCELLED])
    claimed = await runs.delivery.claim(runs.running, 10, run=2)
    assert {m.number: m.is_retry for m in claimed.messages} == {1: True, 3: False}


async def test_an_emails_sender_is_checked_again(service: Service) -> None:
    tenant = await service.tenant(channels=[Channel.EMAIL])
    content = campaign_pb2.EmailContent(
        subject="News", html="<p>Hi {{name}}</p><a href='{{unsubscribe_url}}'>no more</a>"
    )
    getattr(content, "from").address = "news@example.com"
    campaign = await tenant.create(channel=2, sms=None, email=content)
    await service.put_contacts(tenant, campaign.id, [["A"], ["B"]])
    await tenant.run(campaign.id)
    runs = Runs(service, tenant, campaign.id, 2)
    await runs.fail(await runs.claim())
    await service.pool.execute(
        "UPDATE provider_account SET sender_addresses = '{other@example.com}', check_time = now()"
    )
    async with refused(
        "ACTION_NOT_ALLOWED", ("campaign.email.from.address", "SENDER_NOT_VERIFIED")
    ) as caught:
        await runs.retry()
    assert caught["error"].metadata["action"] == "RETRY"
    await service.pool.execute("UPDATE provider_account SET sender_domains = '{example.com}'")
    assert (await runs.retry()).retried == 2

"""A message's timeline: each attempt, each change, over any number of runs; and what its recipient gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import campaign_pb2, message_pb2
from outreach.vocabulary import Channel, FailureReason, MessageStatus
from tests.campaign_service import Service, Tenant, campaign_service, refused
from tests.run_rig import CANCELLED as CANCELLED_STATUS
from tests.run_rig import Runs, begun, half_failed, stopped_half_way

R = FailureReason


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


@pytest.fixture
async def tenant(service: Service) -> Tenant:
    return await service.tenant()


def changes(timeline: message_pb2.MessageTimeline) -> list[tuple[str, str, int]]:
    times = [change.time.ToDatetime() for change in timeline.changes]
    assert times == sorted(times)
    return [
        (
            MessageStatus(change.status).name,
            FailureReason(change.failure_reason).name if change.failure_reason else "",
            change.attempt,
        )
        for change in timeline.changes
    ]


def attempts(timeline: message_pb2.MessageTimeline) -> list[tuple[Any, ...]]:
    for attempt in timeline.attempts:
        assert attempt.HasField("claim_time")
        assert attempt.update_time.ToDatetime() >= attempt.claim_time.ToDatetime()
    return [
        (a.attempt, a.run, MessageStatus(a.status).name, a.provider_message_id, a.provider_code)
        for a in timeline.attempts
    ]


async def test_three_runs_of_one_message(service: Service, tenant: Tenant) -> None:
    runs = await begun(service, tenant, 2)
    first = await runs.claim()
    await runs.deliver({2: first[2]})
    await runs.report({1: 1}, pb.OUTCOME_ACCEPTED, provider_message_id="SM-a", segments=2)
    await runs.fail({1: 1}, R.UNREACHABLE)
    before = await runs.timeline(1)
    assert attempts(before) == [(1, 1, "FAILED", "SM-a", "30003")]

    await runs.retry(1)
    queued = await runs.timeline(1)
    assert attempts(queued) == attempts(before), "what was tried is kept, the next has not begun"
    assert queued.attempts[0] == before.attempts[0]
    message = queued.message
    assert (message.status, message.run, message.attempt) == (2, 2, 1)
    assert (message.provider_message_id, message.provider_code, message.segments) == ("", "", 0)

    # Handed back once: that attempt never left, and is none.
    assert await runs.claim(run=2) == {1: 2}
    await runs.report({1: 2}, pb.OUTCOME_HANDED_BACK)
    assert await runs.claim(run=2) == {1: 3}
    await runs.report({1: 3}, pb.OUTCOME_ACCEPTED, provider_message_id="SM-b", segments=1)
    await runs.fail({1: 3}, R.RATE_LIMITED)
    await runs.retry()
    await runs.claim(run=3)
    await runs.report({1: 4}, pb.OUTCOME_ACCEPTED, provider_message_id="SM-c", segments=1)
    await runs.deliver({1: 4})
    timeline = await runs.timeline(1)
    assert attempts(timeline) == [
        (1, 1, "FAILED", "SM-a", "30003"),
        (3, 2, "FAILED", "SM-b", "30003"),
        (4, 3, "DELIVERED", "SM-c", ""),
    ]
    assert [a.segments for a in timeline.attempts] == [2, 1, 1]
    assert [a.failure_reason for a in timeline.attempts] == [R.UNREACHABLE, R.RATE_LIMITED, 0]
    assert changes(timeline) == [
        ("QUEUED", "", 0),
        ("SENDING", "", 1),
        ("SENT", "", 1),
        ("FAILED", "UNREACHABLE", 1),
        ("QUEUED", "", 1),
        ("SENDING", "", 2),
        ("QUEUED", "", 2),
        ("SENDING", "", 3),
        ("SENT", "", 3),
        ("FAILED", "RATE_LIMITED", 3),
        ("QUEUED", "", 3),
        ("SENDING", "", 4),
        ("SENT", "", 4),
        ("DELIVERED", "", 4),
    ]
    assert timeline.sms_text == "Hello Name 0"
    assert timeline.message == (await runs.timeline(1)).message
    other = await runs.timeline(2)
    assert attempts(other) == [(1, 1, "DELIVERED", "", "")]
    assert changes(other) == [("QUEUED", "", 0), ("SENDING", "", 1), ("DELIVERED", "", 1)]


async def test_a_message_that_was_never_run_has_no_history(
    service: Service, tenant: Tenant
) -> None:
    campaign = await service.ready(tenant, contacts=1)
    timeline = await Runs(service, tenant, campaign.id, 1).timeline(1)
    assert timeline.message.status == message_pb2.MESSAGE_STATUS_WAITING
    assert (len(timeline.attempts), len(timeline.changes)) == (0, 0)
    assert timeline.sms_text == "Hello Name 0"


async def test_a_cancelled_message_has_no_attempt_of_its_own(
    service: Service, tenant: Tenant
) -> None:
    runs = await stopped_half_way(service, tenant, 2)
    timeline = await runs.timeline(2)
    assert timeline.message.status == CANCELLED_STATUS
    assert timeline.message.retryable
    assert attempts(timeline) == []
    assert changes(timeline) == [("QUEUED", "", 0), ("CANCELLED", "", 0)]
    # Failed, retried, and cancelled before it was tried again: the first attempt stays the only one.
    other = await half_failed(service, tenant, 2)
    await other.retry(1)
    await other.stop()
    await other.cancel()
    timeline = await other.timeline(1)
    assert attempts(timeline) == [(1, 1, "FAILED", "", "30003")]
    assert changes(timeline)[-2:] == [("QUEUED", "", 1), ("CANCELLED", "", 1)]
    await other.retry(statuses=[CANCELLED_STATUS])
    assert await other.claim(run=3) == {1: 2}
    await other.deliver({1: 2})
    assert attempts(await other.timeline(1)) == [
        (1, 1, "FAILED", "", "30003"),
        (2, 3, "DELIVERED", "", ""),
    ]


async def test_opted_out_at_the_provider_is_an_attempt_and_with_us_is_none(
    service: Service, tenant: Tenant
) -> None:
    runs = await begun(service, tenant, 1)
    await runs.report(await runs.claim(), pb.OUTCOME_OPTED_OUT, provider_code="21610")
    assert attempts(await runs.timeline(1)) == [(1, 1, "OPTED_OUT", "", "21610")]
    # The same person in the next campaign never leaves us.
    other = await begun(service, tenant, 1)
    assert await other.claim() == {}
    timeline = await other.timeline(1)
    assert timeline.message.status == message_pb2.MESSAGE_STATUS_OPTED_OUT
    assert attempts(timeline) == []
    assert changes(timeline) == [("QUEUED", "", 0), ("OPTED_OUT", "", 0)]


async def test_a_pruned_log_leaves_the_attempts(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 2)
    await service.pool.execute("UPDATE campaign SET end_time = now() - interval '2 days'")
    assert await runs.delivery.prune_log() > 0
    timeline = await runs.timeline(1)
    assert changes(timeline) == [("QUEUED", "", 0)]
    assert attempts(timeline) == [(1, 1, "FAILED", "", "30003")]


async def test_an_email_is_shown_as_its_recipient_gets_it(service: Service) -> None:
    tenant = await service.tenant(channels=[Channel.EMAIL])
    content = campaign_pb2.EmailContent(
        subject="News for {{name}}",
        html="<p>Hi <b>{{name}}</b></p>{{long}}<a href='{{unsubscribe_url}}'>no more</a>",
    )
    getattr(content, "from").address = "news@example.com"
    campaign = await tenant.create(channel=2, sms=None, email=content)
    rows = [["Ada", ""], ["Bob", "x" * 1_000_001]]
    await service.put_contacts(tenant, campaign.id, rows, ("name", "long"))
    runs = Runs(service, tenant, campaign.id, 2)
    timeline = await runs.timeline(1)
    assert timeline.email_subject == "News for Ada"
    assert "<b>Ada</b>" in timeline.email_html.replace(' style=""', "")
    assert "outreach.invalid/unsubscribe" in timeline.email_html
    assert "Hi Ada" in timeline.email_text
    assert timeline.sms_text == ""
    large = await runs.timeline(2)
    assert (large.email_subject, large.email_html) == ("News for Bob", "")


async def test_a_draft_that_can_not_be_rendered_shows_none(
    service: Service, tenant: Tenant
) -> None:
    campaign = await tenant.create("Hello {{name")
    await service.put_contacts(tenant, campaign.id, [["A"]])
    timeline = await Runs(service, tenant, campaign.id, 1).timeline(1)
    assert timeline.sms_text == ""


async def test_messages_that_are_not_there(service: Service, tenant: Tenant) -> None:
    runs = await begun(service, tenant, 2)
    async with refused("MESSAGE_NOT_FOUND"):
        await runs.timeline(3)
    async with refused("INVALID_REQUEST", ("number", "FIELD_OUT_OF_RANGE")):
        await runs.timeline(0)
    async with refused("CAMPAIGN_NOT_FOUND"):
        await Runs(service, tenant, str(UUID(int=7)), 2).timeline(1)
    empty = await tenant.create()
    async with refused("MESSAGE_NOT_FOUND") as caught:
        await Runs(service, tenant, empty.id, 0).timeline(1)
    assert caught["error"].text.startswith("The campaign has no messages")

"""What is told of an attempt that a retry has followed: kept, and nobody who has a message is sent it again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.v1 import campaign_pb2, message_pb2
from outreach.vocabulary import Channel, FailureReason
from services.campaign.store.retries import queue_again
from tests.campaign_data import running_campaign, statuses
from tests.campaign_service import Service, Tenant, campaign_service
from tests.delivery_rig import Delivery, report
from tests.run_rig import CANCELLED, Runs, S, begun, half_failed

COMPLETE = campaign_pb2.CAMPAIGN_STATUS_COMPLETE
R = FailureReason


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


@pytest.fixture
async def tenant(service: Service) -> Tenant:
    return await service.tenant()


async def unconfirmed(service: Service, tenant: Tenant, contacts: int = 1) -> Runs:
    """The first attempt of each may have gone out, and nobody said; retried all the same."""
    runs = await begun(service, tenant, contacts)
    await runs.fail(await runs.claim(), R.UNCONFIRMED)
    await runs.retry(force=True)
    return runs


async def kept(service: Service, number: int) -> list[tuple[Any, ...]]:
    rows = await service.pool.fetch(
        "SELECT attempt, status, failure_reason, provider_message_id FROM message_attempt "
        "WHERE number = $1 ORDER BY attempt",
        number,
    )
    return [tuple(row) for row in rows]


async def test_what_was_delivered_is_not_sent_again(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 4)
    await runs.retry()
    await runs.report({1: 1}, pb.OUTCOME_DELIVERED, provider_message_id="SM1")
    assert (await runs.statuses())[1] is S.QUEUED
    assert await runs.claim(run=2) == {2: 2}
    await runs.deliver({2: 2})
    ended = await runs.get()
    assert (ended.status, ended.counts.delivered) == (COMPLETE, 4)
    (attempt,) = (await runs.timeline(1)).attempts
    assert (attempt.attempt, attempt.status) == (1, message_pb2.MESSAGE_STATUS_DELIVERED)
    assert attempt.provider_message_id == "SM1"


async def test_a_run_ends_when_nobody_is_left_to_send_to(service: Service, tenant: Tenant) -> None:
    runs = await half_failed(service, tenant, 2)
    await runs.retry()
    await runs.deliver({1: 1})
    claimed = await runs.delivery.claim(runs.running, 10, run=2)
    assert (claimed.state, claimed.messages) == (pb.CLAIM_STATE_EXHAUSTED, [])
    assert (await runs.get()).status == COMPLETE


async def test_what_was_accepted_is_not_sent_again(service: Service, tenant: Tenant) -> None:
    runs = await unconfirmed(service, tenant)
    await runs.report({1: 1}, pb.OUTCOME_ACCEPTED, provider_message_id="SM1", segments=2)
    assert await runs.claim(run=2) == {}
    assert await runs.statuses() == {1: S.ASSUMED_DELIVERED}
    await runs.deliver({1: 1})
    assert await runs.statuses() == {1: S.DELIVERED}, "its row tells of that attempt again"
    assert await kept(service, 1) == [(1, S.DELIVERED, None, "SM1")]


async def test_that_it_was_accepted_says_nothing_of_what_failed_later(
    service: Service, tenant: Tenant
) -> None:
    runs = await half_failed(service, tenant, 2)
    await runs.retry()
    await runs.report({1: 1}, pb.OUTCOME_ACCEPTED, provider_message_id="SM1")
    assert await runs.claim(run=2) == {1: 2}
    assert await kept(service, 1) == [(1, S.FAILED, R.UNREACHABLE, "SM1")]


async def test_why_it_failed_is_kept_and_does_not_keep_it_from_its_retry(
    service: Service, tenant: Tenant
) -> None:
    runs = await unconfirmed(service, tenant)
    await runs.fail({1: 1}, R.UNREACHABLE)
    assert await kept(service, 1) == [(1, S.FAILED, R.UNREACHABLE, None)]
    assert await runs.claim(run=2) == {1: 2}


async def test_evidence_after_the_claim_is_kept_of_its_attempt(
    service: Service, tenant: Tenant
) -> None:
    runs = await unconfirmed(service, tenant)
    assert await runs.claim(run=2) == {1: 2}
    await runs.deliver({1: 1})
    assert await runs.statuses() == {1: S.SENDING}, "the second attempt is another one"
    assert await kept(service, 1) == [(1, S.DELIVERED, None, None)]
    await runs.deliver({1: 2})
    first, second = (await runs.timeline(1)).attempts
    assert first.status == second.status == message_pb2.MESSAGE_STATUS_DELIVERED


async def test_what_is_handed_back_after_it_is_not_sent(service: Service, tenant: Tenant) -> None:
    runs = await unconfirmed(service, tenant)
    attempts = await runs.claim(run=2)
    await runs.report({1: 1}, pb.OUTCOME_DELIVERED, provider_message_id="SM1")
    await runs.report(attempts, pb.OUTCOME_HANDED_BACK)
    assert await runs.claim(run=2) == {}
    assert await runs.statuses() == {1: S.DELIVERED}
    (attempt,) = (await runs.timeline(1)).attempts
    assert attempt.attempt == 1, "the second one never left"


async def test_what_was_stopped_meanwhile_is_not_sent_when_it_is_resumed(
    service: Service, tenant: Tenant
) -> None:
    runs = await unconfirmed(service, tenant)
    await runs.stop()
    await runs.cancel()
    await runs.deliver({1: 1})
    assert await runs.statuses() == {1: S.CANCELLED}
    await runs.retry(statuses=[CANCELLED])
    assert await runs.claim(run=3) == {}
    assert await runs.statuses() == {1: S.DELIVERED}


@pytest.mark.parametrize(
    ("reason", "status"), [(R.UNCONFIRMED, S.DELIVERED), (R.MAILBOX_UNAVAILABLE, S.SENDING)]
)
async def test_an_email_that_bounced_is_sent_again_whatever_is_told_of_its_delivery(
    service: Service, reason: FailureReason, status: S
) -> None:
    delivery = Delivery(service.pool)
    campaign = await running_campaign(service.pool, 1, channel=Channel.EMAIL)
    await delivery.claim(campaign, 1)
    await delivery.report(campaign, report(1, pb.OUTCOME_FAILED, failure_reason=int(reason)))
    await requeue(service, campaign.campaign_id)
    await delivery.report(campaign, report(1, pb.OUTCOME_DELIVERED))
    await delivery.claim(campaign, 1, run=2)
    assert await statuses(service.pool, campaign.campaign_id) == {1: status}


async def requeue(service: Service, campaign_id: UUID) -> None:
    """What a retry does to the messages; the rest of it needs an account and its senders."""
    async with service.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE campaign SET run = 2, status = 3, holds_channel = true, end_time = NULL "
            "WHERE id = $1",
            campaign_id,
        )
        await queue_again(connection, campaign_id, [1])

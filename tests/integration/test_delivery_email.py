"""Email campaigns on the delivery side: claims, events in any order, and the way through ACTIVE_RETRIES."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.postgres.pool import create_pool
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus
from tests.campaign_data import (
    Running,
    assert_exact,
    campaign_row,
    hash_of,
    recipient,
    running_campaign,
    statuses,
)
from tests.delivery_rig import Delivery, Rig, accepted, delivery_rig, report

S = MessageStatus
C = CampaignStatus
EMAIL = Channel.EMAIL
#: A bounce's reason.
GONE = int(FailureReason.MAILBOX_UNAVAILABLE)


@pytest.fixture
async def delivery(database_dsn: str) -> AsyncIterator[Delivery]:
    pool = await create_pool(database_dsn, application_name="tests", connect_seconds_max=60)
    yield Delivery(pool)
    await pool.close()


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[Rig]:
    async with delivery_rig(database_dsn) as rig:
        yield rig


def delivered(number: int) -> pb.Report:
    return report(number, pb.OUTCOME_DELIVERED)


def deferred(number: int) -> pb.Report:
    return report(number, pb.OUTCOME_DEFERRED)


def bounced(number: int) -> pb.Report:
    return report(number, pb.OUTCOME_FAILED, failure_reason=GONE, provider_code="5.1.1")


async def sent(delivery: Delivery, contacts: int, **more: Any) -> Running:
    """An email campaign whose messages are all SENT."""
    campaign = await running_campaign(delivery.pool, contacts, channel=EMAIL, **more)
    await delivery.claim(campaign, contacts)
    await delivery.report(campaign, *(accepted(n) for n in range(1, contacts + 1)))
    return campaign


async def status_of(delivery: Delivery, campaign: Running) -> CampaignStatus:
    return C((await campaign_row(delivery.pool, campaign.campaign_id))["status"])


async def test_a_claim_is_a_request_and_says_what_stands_for_the_recipient(
    delivery: Delivery,
) -> None:
    campaign = await running_campaign(delivery.pool, 1_200, channel=EMAIL)
    claimed = await delivery.claim(campaign, 1_000)
    assert [message.number for message in claimed.messages] == list(range(1, 1_001))
    assert claimed.messages[6].recipient == recipient(7, EMAIL)
    assert claimed.messages[6].recipient_hash == hash_of(7, EMAIL)
    sms = await running_campaign(delivery.pool, 1)
    (message,) = (await delivery.claim(sms, 1)).messages
    assert not message.recipient_hash  # nothing that a sender needs there


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
@pytest.mark.parametrize("order", ["as it happened", "reversed"])
async def test_a_bounce_after_delivery_wins(delivery: Delivery, together: bool, order: str) -> None:
    campaign = await sent(delivery, 3)
    events = [delivered(1), bounced(1)]
    if order == "reversed":
        events.reverse()
    if together:
        await delivery.report(campaign, *events)
    else:
        for event in events:
            await delivery.report(campaign, event)
    assert (await statuses(delivery.pool, campaign.campaign_id))[1] is S.FAILED
    row = await delivery.pool.fetchrow("SELECT * FROM message WHERE number = 1")
    assert row is not None
    assert (row["failure_reason"], row["provider_code"]) == (GONE, "5.1.1")
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_a_bounce_after_the_end_corrects_the_campaign_and_not_its_end(
    delivery: Delivery,
) -> None:
    campaign = await sent(delivery, 2)
    await delivery.report(campaign, delivered(1), delivered(2))
    before = await campaign_row(delivery.pool, campaign.campaign_id)
    assert (before["status"], before["end_time"] is None) == (C.COMPLETE, False)
    await delivery.report(campaign, bounced(2))
    await delivery.report(campaign, bounced(2), delivered(2))
    after = await campaign_row(delivery.pool, campaign.campaign_id)
    assert (after["status"], after["failed"]) == (C.COMPLETE_WITH_ERRORS, 1)
    assert after["end_time"] == before["end_time"]
    assert not after["holds_channel"]
    assert after["revision"] == before["revision"] + 1
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_a_storm_of_deferrals_is_acknowledged_and_changes_nothing_more(rig: Rig) -> None:
    """SendGrid tells of every try of a deferred email, for up to 72 hours."""
    campaign = await running_campaign(rig.pool, 4, channel=EMAIL)
    sender = await rig.sender()
    await sender.claim(campaign, 4)
    await sender.report(campaign, pb.OUTCOME_ACCEPTED, 1, 2, 3, 4)
    await sender.report(campaign, pb.OUTCOME_DEFERRED, 1, 2, 3)
    await sender.acked(2)
    row = await campaign_row(rig.pool, campaign.campaign_id)
    since = await rig.pool.fetch("SELECT number, update_time FROM message ORDER BY number")
    for _ in range(50):
        await sender.report(campaign, pb.OUTCOME_DEFERRED, 1, 2, 3)
    await sender.acked(52)
    after = await campaign_row(rig.pool, campaign.campaign_id)
    assert (after["revision"], after["retrying"]) == (row["revision"], 3)
    # The time limit counts from the first deferral.
    assert since == await rig.pool.fetch("SELECT number, update_time FROM message ORDER BY number")
    await assert_exact(rig.pool, campaign.campaign_id)


async def test_events_that_come_out_of_order_end_where_the_last_word_says(
    delivery: Delivery,
) -> None:
    campaign = await running_campaign(delivery.pool, 6, channel=EMAIL)
    await delivery.claim(campaign, 6)
    for event in (
        deferred(1),  # before the provider's own answer
        accepted(1),
        delivered(2),
        accepted(2),
        deferred(2),
        bounced(3),
        deferred(3),
        delivered(3),
        report(4, pb.OUTCOME_OPTED_OUT, provider_code="Unsubscribed Address"),
        accepted(4),
        deferred(4),
        accepted(5),
        deferred(5),
        accepted(5),
        report(6, pb.OUTCOME_UNKNOWN),
        deferred(6),
        report(6, pb.OUTCOME_NOT_FOUND),
    ):
        await delivery.report(campaign, event)
    assert await statuses(delivery.pool, campaign.campaign_id) == {
        1: S.RETRYING,
        2: S.DELIVERED,
        3: S.FAILED,
        4: S.OPTED_OUT,
        5: S.RETRYING,
        6: S.RETRYING,
    }
    assert not await delivery.pool.fetch("SELECT FROM unknown_attempt")
    suppressed = await delivery.pool.fetch("SELECT recipient_hash, source FROM suppression")
    assert [tuple(row) for row in suppressed] == [(hash_of(4, EMAIL), "provider")]
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_the_primary_sends_end_frees_the_channel_in_the_same_commit(
    delivery: Delivery,
) -> None:
    campaign = await sent(delivery, 3)
    await delivery.report(campaign, deferred(1), deferred(2))
    assert await status_of(delivery, campaign) is C.IN_PROGRESS
    with pytest.raises(asyncpg.UniqueViolationError):
        await running_campaign(
            delivery.pool, 1, organisation_id=campaign.organisation_id, channel=EMAIL
        )
    await delivery.report(campaign, delivered(3))
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert (row["status"], row["holds_channel"], row["end_time"]) == (C.ACTIVE_RETRIES, False, None)
    (logged,) = await delivery.pool.fetch(
        "SELECT campaign_status, numbers FROM change_log WHERE revision = $1", row["revision"]
    )
    assert tuple(logged) == (C.ACTIVE_RETRIES, [3])
    # Another one has its whole run meanwhile.
    other = await sent(delivery, 2, organisation_id=campaign.organisation_id)
    await delivery.report(other, delivered(1), delivered(2))
    assert await status_of(delivery, other) is C.COMPLETE
    assert await status_of(delivery, campaign) is C.ACTIVE_RETRIES
    for each in (campaign, other):
        await assert_exact(delivery.pool, each.campaign_id)


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (delivered, C.COMPLETE),
        (bounced, C.COMPLETE_WITH_ERRORS),
        (lambda n: report(n, pb.OUTCOME_OPTED_OUT), C.COMPLETE),
    ],
)
async def test_the_end_of_the_last_deferral_is_the_campaigns_end(
    delivery: Delivery, last: Any, status: CampaignStatus
) -> None:
    campaign = await sent(delivery, 3)
    await delivery.report(campaign, deferred(1), deferred(2), delivered(3))
    await delivery.report(campaign, delivered(1))
    assert await status_of(delivery, campaign) is C.ACTIVE_RETRIES
    await delivery.report(campaign, last(2))
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == status
    assert row["end_time"] is not None
    # What is told once more, or later, opens nothing again.
    await delivery.report(campaign, deferred(1), deferred(2), accepted(3), last(2))
    assert await campaign_row(delivery.pool, campaign.campaign_id) == row
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_a_campaign_ends_once_however_many_tell_of_its_last_deferrals(
    delivery: Delivery,
) -> None:
    campaign = await sent(delivery, 40)
    await delivery.report(campaign, *(deferred(n) for n in range(1, 41)))
    assert await status_of(delivery, campaign) is C.ACTIVE_RETRIES
    await asyncio.gather(
        *(delivery.report(campaign, delivered(n), deferred(n)) for n in range(1, 41)),
        *(delivery.report(campaign, delivered(n)) for n in range(40, 0, -1)),
    )
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert (row["status"], row["delivered"]) == (C.COMPLETE, 40)
    ends = await delivery.pool.fetch(
        "SELECT revision, commit_time FROM change_log WHERE campaign_status = 5"
    )
    assert [(end["revision"], end["commit_time"]) for end in ends] == [
        (row["revision"], row["end_time"])
    ]
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_in_active_retries_there_is_nothing_to_claim_to_hand_back_or_to_fail(
    delivery: Delivery,
) -> None:
    campaign = await sent(delivery, 2)
    await delivery.report(campaign, deferred(1), deferred(2))
    before = await campaign_row(delivery.pool, campaign.campaign_id)
    assert before["status"] == C.ACTIVE_RETRIES
    claimed = await delivery.claim(campaign, 2, instance=uuid4())
    assert claimed.state == pb.CLAIM_STATE_NOT_RUNNING
    # The sender that had claimed them is gone; what had gone out stays as it is.
    await delivery.end(delivery.instance, campaign, begun=[(1, 1)])
    await delivery.report(
        campaign, report(1, pb.OUTCOME_HANDED_BACK), report(2, pb.OUTCOME_UNKNOWN)
    )
    await delivery.fail(campaign, FailureReason.ACCOUNT_PROBLEM)
    assert await campaign_row(delivery.pool, campaign.campaign_id) == before
    assert not await delivery.pool.fetch("SELECT FROM unknown_attempt")
    assert set((await statuses(delivery.pool, campaign.campaign_id)).values()) == {S.RETRYING}


async def test_a_failed_campaign_with_deferred_emails_ends_with_the_last_of_them(
    delivery: Delivery,
) -> None:
    campaign = await sent(delivery, 2)
    await delivery.report(campaign, deferred(1))
    await delivery.fail(campaign, FailureReason.SENDER_NOT_ALLOWED)
    assert await status_of(delivery, campaign) is C.IN_PROGRESS
    await delivery.report(campaign, delivered(2))
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert (row["status"], row["end_time"], row["holds_channel"]) == (C.FAILED, None, False)
    await delivery.report(campaign, delivered(1))
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == C.FAILED
    assert row["end_time"] is not None
    await assert_exact(delivery.pool, campaign.campaign_id)


@pytest.mark.parametrize("reason", FailureReason)
async def test_a_failed_campaign_says_what_the_provider_refuses(
    delivery: Delivery, reason: FailureReason
) -> None:
    campaign = await running_campaign(delivery.pool, 1, channel=EMAIL)
    await delivery.fail(campaign, reason)
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["failure_reason"] == reason
    assert f"({reason.name}): nothing more was sent." in row["failure_text"]
    words = {
        FailureReason.ACCOUNT_PROBLEM: "credentials",
        FailureReason.SENDER_NOT_ALLOWED: "sender",
        FailureReason.CONTENT_REJECTED: "another content",
    }
    for each, word in words.items():
        assert (word in row["failure_text"]) == (each is reason)


async def test_the_log_of_a_campaign_is_kept_while_anything_is_deferred(
    delivery: Delivery,
) -> None:
    campaign = await sent(delivery, 1)
    await delivery.report(campaign, deferred(1))
    await delivery.pool.execute("UPDATE campaign SET start_time = now() - interval '3 days'")
    assert await delivery.prune_log() == 0
    await delivery.report(campaign, delivered(1))
    assert await delivery.prune_log() == 0  # it has just ended
    await delivery.pool.execute("UPDATE campaign SET end_time = now() - interval '2 days'")
    assert await delivery.prune_log() == 4

"""Claims and reports against a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.postgres.pool import create_pool
from outreach.v1 import channel_pb2, failure_reason_pb2
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus
from tests.campaign_data import (
    Running,
    assert_exact,
    campaign_row,
    recipient,
    running_campaign,
    statuses,
)
from tests.delivery_rig import Delivery, accepted, report

S = MessageStatus


@pytest.fixture
async def delivery(database_dsn: str) -> AsyncIterator[Delivery]:
    pool = await create_pool(database_dsn, application_name="tests", connect_seconds_max=60)
    yield Delivery(pool)
    await pool.close()


async def test_a_message_is_claimed_once_by_any_number_of_senders(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 300)
    results = await asyncio.gather(
        *(delivery.claim(campaign, 20, instance=uuid4()) for _ in range(20))
    )
    numbers = [message.number for result in results for message in result.messages]
    assert sorted(numbers) == list(range(1, 301))
    assert all(message.attempt == 1 for result in results for message in result.messages)
    empty = await delivery.claim(campaign, 20)
    assert empty.state == pb.CLAIM_STATE_EXHAUSTED
    assert not empty.messages
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_a_claim_carries_recipient_values_and_content(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 3)
    await delivery.pool.execute("UPDATE contact SET variables = '{NULL}' WHERE number = 2")
    claimed = await delivery.claim(campaign, 2)
    assert claimed.state == pb.CLAIM_STATE_OPEN
    assert claimed.content_hash == "hash-1"
    assert [(m.number, m.recipient, list(m.values)) for m in claimed.messages] == [
        (1, recipient(1), ["Name 1"]),
        (2, recipient(2), [""]),
    ]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE campaign SET stop_time = now()",
        "UPDATE campaign SET failure_reason = 13",
        "UPDATE campaign SET run = 2",
        "UPDATE campaign SET status = 5, holds_channel = false",
        "DELETE FROM campaign",
    ],
)
async def test_nothing_can_be_claimed_of_a_campaign_that_does_not_run(
    delivery: Delivery, change: str
) -> None:
    campaign = await running_campaign(delivery.pool, 3)
    await delivery.pool.execute(change)
    claimed = await delivery.claim(campaign, 3)
    assert claimed.state == pb.CLAIM_STATE_NOT_RUNNING
    assert not claimed.messages
    assert set((await statuses(delivery.pool, campaign.campaign_id)).values()) == {S.QUEUED}


async def test_a_suppressed_recipient_is_opted_out_and_not_given_to_the_sender(
    delivery: Delivery,
) -> None:
    campaign = await running_campaign(delivery.pool, 3)
    opt_out = pb.OptOut(
        organisation_id=str(campaign.organisation_id),
        channel=channel_pb2.CHANNEL_SMS,
        recipient=recipient(2),
        action=pb.OPT_OUT_ACTION_ADD,
        time=Timestamp(seconds=1_000),
    )
    await delivery.reports.apply([pb.ReportBatch(sequence=1, opt_outs=[opt_out])])
    claimed = await delivery.claim(campaign, 3)
    assert [message.number for message in claimed.messages] == [1, 3]
    assert (await statuses(delivery.pool, campaign.campaign_id))[2] is S.OPTED_OUT
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_an_opt_in_that_is_older_than_the_opt_out_changes_nothing(
    delivery: Delivery,
) -> None:
    campaign = await running_campaign(delivery.pool, 2)

    def opt(number: int, action: "pb.OptOutAction.ValueType", seconds: int) -> pb.OptOut:
        return pb.OptOut(
            organisation_id=str(campaign.organisation_id),
            channel=channel_pb2.CHANNEL_SMS,
            recipient=recipient(number),
            action=action,
            time=Timestamp(seconds=seconds),
        )

    await delivery.reports.apply(
        [
            pb.ReportBatch(
                sequence=1,
                opt_outs=[
                    opt(1, pb.OPT_OUT_ACTION_ADD, 100),
                    opt(1, pb.OPT_OUT_ACTION_REMOVE, 50),
                    opt(2, pb.OPT_OUT_ACTION_ADD, 100),
                    opt(2, pb.OPT_OUT_ACTION_REMOVE, 150),
                ],
            )
        ]
    )
    claimed = await delivery.claim(campaign, 2)
    assert [message.number for message in claimed.messages] == [2]


async def test_another_organisations_opt_out_does_not_count(delivery: Delivery) -> None:
    other = await running_campaign(delivery.pool, 1)
    campaign = await running_campaign(delivery.pool, 1)
    opt_out = pb.OptOut(
        organisation_id=str(other.organisation_id),
        channel=channel_pb2.CHANNEL_SMS,
        recipient=recipient(1),
        action=pb.OPT_OUT_ACTION_ADD,
        time=Timestamp(seconds=1_000),
    )
    await delivery.reports.apply([pb.ReportBatch(sequence=1, opt_outs=[opt_out])])
    assert len((await delivery.claim(campaign, 1)).messages) == 1
    assert not (await delivery.claim(other, 1)).messages


async def test_reports_move_messages_on_and_the_last_completes_the_campaign(
    delivery: Delivery,
) -> None:
    campaign = await running_campaign(delivery.pool, 4)
    await delivery.claim(campaign, 4)
    await delivery.report(campaign, *(accepted(number) for number in (1, 2, 3)))
    await delivery.report(
        campaign,
        report(1, pb.OUTCOME_DELIVERED),
        report(
            2,
            pb.OUTCOME_FAILED,
            failure_reason=failure_reason_pb2.FAILURE_REASON_UNREACHABLE,
            provider_code="30003",
        ),
        report(3, pb.OUTCOME_DELIVERED),
    )
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == CampaignStatus.IN_PROGRESS
    assert row["end_time"] is None
    await delivery.report(campaign, report(4, pb.OUTCOME_OPTED_OUT, provider_code="21610"))
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == CampaignStatus.COMPLETE_WITH_ERRORS
    assert not row["holds_channel"]
    assert row["end_time"] is not None
    assert await statuses(delivery.pool, campaign.campaign_id) == {
        1: S.DELIVERED,
        2: S.FAILED,
        3: S.DELIVERED,
        4: S.OPTED_OUT,
    }
    failed = await delivery.pool.fetchrow("SELECT * FROM message WHERE number = 2")
    assert failed is not None
    assert failed["failure_reason"] == FailureReason.UNREACHABLE
    assert failed["provider_code"] == "30003"
    assert failed["provider_message_id"] == "SM2"
    assert await delivery.pool.fetchval("SELECT count(*) FROM suppression WHERE suppressed") == 1
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_a_repeated_or_late_report_changes_nothing(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 2)
    await delivery.claim(campaign, 2)
    # The receipt overtakes the answer; both come twice.
    for _ in range(2):
        await delivery.report(campaign, report(1, pb.OUTCOME_DELIVERED))
        await delivery.report(campaign, accepted(1), accepted(2))
        await delivery.report(campaign, report(1, pb.OUTCOME_HANDED_BACK))
    row = await delivery.pool.fetchrow("SELECT * FROM message WHERE number = 1")
    assert row is not None
    assert (row["status"], row["provider_message_id"], row["segments"]) == (S.DELIVERED, "SM1", 1)
    assert (await statuses(delivery.pool, campaign.campaign_id))[2] is S.SENT
    # For a text message a receipt is the last word.
    await delivery.report(campaign, report(1, pb.OUTCOME_FAILED, failure_reason=2))
    assert (await statuses(delivery.pool, campaign.campaign_id))[1] is S.DELIVERED
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_an_id_that_comes_late_is_a_revision_too(delivery: Delivery) -> None:
    """An export of the campaign that was cut before is not gone on with after."""
    campaign = await running_campaign(delivery.pool, 1)
    await delivery.claim(campaign, 1)
    await delivery.report(campaign, report(1, pb.OUTCOME_DELIVERED))
    ended = await campaign_row(delivery.pool, campaign.campaign_id)
    for _ in range(2):  # told again it changes nothing
        await delivery.report(campaign, accepted(1))
        row = await campaign_row(delivery.pool, campaign.campaign_id)
        assert row["revision"] == ended["revision"] + 1
        assert (row["status"], row["end_time"]) == (ended["status"], ended["end_time"])
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_texts_and_numbers_that_the_store_refuses_do_not_hold_up_the_batch(
    delivery: Delivery,
) -> None:
    """What providers tell goes into texts as it comes; one NUL must not cost 500 reports."""
    campaign = await running_campaign(delivery.pool, 4)
    await delivery.claim(campaign, 4)
    await delivery.report(
        campaign,
        accepted(1),
        report(2, pb.OUTCOME_REJECTED, failure_reason=1, provider_code="21\x00211"),
        report(3, pb.OUTCOME_ACCEPTED, provider_message_id="SM\x003", segments=-70_000),
        report(4, pb.OUTCOME_ACCEPTED),
        report(  # the second word about one message in a batch
            4,
            pb.OUTCOME_FAILED,
            failure_reason=1,
            provider_code="30\x00003",
            provider_message_id="SM\x004",
        ),
    )
    rows = await delivery.pool.fetch(
        "SELECT status, provider_code, provider_message_id, segments FROM message ORDER BY number"
    )
    assert [tuple(row) for row in rows] == [
        (S.SENT, None, "SM1", 1),
        (S.FAILED, "21211", None, 0),
        (S.SENT, None, "SM3", 0),
        (S.FAILED, "30003", "SM4", 0),
    ]


async def test_a_report_of_another_attempt_or_message_changes_nothing(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 1)
    await delivery.report(campaign, accepted(1))  # never claimed
    assert (await statuses(delivery.pool, campaign.campaign_id))[1] is S.QUEUED
    await delivery.claim(campaign, 1)
    await delivery.report(campaign, accepted(1, attempt=2), accepted(99))
    assert (await statuses(delivery.pool, campaign.campaign_id))[1] is S.SENDING
    unknown_campaign = Running(campaign.organisation_id, uuid4(), 1)
    await delivery.report(unknown_campaign, accepted(1))
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_what_is_handed_back_is_claimed_again_as_another_attempt(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 1)
    await delivery.claim(campaign, 1)
    await delivery.report(campaign, report(1, pb.OUTCOME_HANDED_BACK))
    again = await delivery.claim(campaign, 1)
    assert [(m.number, m.attempt) for m in again.messages] == [(1, 2)]
    # What still comes of the first attempt is not about this one.
    await delivery.report(campaign, report(1, pb.OUTCOME_HANDED_BACK, attempt=1))
    assert (await statuses(delivery.pool, campaign.campaign_id))[1] is S.SENDING
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_an_ended_instance_hands_back_what_it_had_not_begun(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 6)
    dead, living = uuid4(), uuid4()
    await delivery.claims.claim(dead, campaign.campaign_id, 1, 1, 4, 10)
    await delivery.claims.claim(living, campaign.campaign_id, 1, 5, 6, 10)
    await delivery.report(campaign, accepted(1))
    await delivery.end(dead, campaign, begun=[(1, 1), (2, 1)])
    assert await statuses(delivery.pool, campaign.campaign_id) == {
        1: S.SENT,
        2: S.SENDING,  # had begun: may have gone out
        3: S.QUEUED,
        4: S.QUEUED,
        5: S.SENDING,
        6: S.SENDING,
    }
    unknown = await delivery.pool.fetch("SELECT number FROM unknown_attempt")
    assert [row["number"] for row in unknown] == [2]
    # A claim of the dead one that was still under way gets nothing.
    late = await delivery.claim(campaign, 10, instance=dead)
    assert not late.messages
    assert (await statuses(delivery.pool, campaign.campaign_id))[3] is S.QUEUED
    # Told again: nothing more happens.
    await delivery.end(dead, campaign, begun=[(1, 1), (2, 1)])
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_what_a_dead_sender_had_begun_once_does_not_hold_a_later_attempt(
    delivery: Delivery,
) -> None:
    """Its journal could not note that the first request created nothing; the second had not begun."""
    campaign = await running_campaign(delivery.pool, 1)
    await delivery.claim(campaign, 1)
    await delivery.report(campaign, report(1, pb.OUTCOME_HANDED_BACK))
    await delivery.claim(campaign, 1)
    await delivery.end(delivery.instance, campaign, begun=[(1, 1)])
    assert (await statuses(delivery.pool, campaign.campaign_id))[1] is S.QUEUED
    assert not await delivery.pool.fetch("SELECT FROM unknown_attempt")


async def test_an_ended_instance_does_not_hand_back_what_it_had_reported_as_unknown(
    delivery: Delivery,
) -> None:
    """A stream breaks, its sender lives on: what it told before is not told again with the end."""
    campaign = await running_campaign(delivery.pool, 3)
    await delivery.claim(campaign, 3)
    await delivery.report(campaign, report(1, pb.OUTCOME_UNKNOWN))
    await delivery.end(delivery.instance, campaign, begun=[(2, 1)])
    # Again, by somebody who knows less (a file that was left behind): still nothing is sent twice.
    await delivery.end(delivery.instance, campaign)
    assert await statuses(delivery.pool, campaign.campaign_id) == {
        1: S.SENDING,
        2: S.SENDING,
        3: S.QUEUED,
    }
    unknown = await delivery.pool.fetch("SELECT number FROM unknown_attempt ORDER BY number")
    assert [row["number"] for row in unknown] == [1, 2]
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_an_overdue_claim_is_handed_back_when_its_dead_sender_had_not_begun_it(
    delivery: Delivery,
) -> None:
    """A timer only guesses that a message may have gone out; the dead sender's journal knows."""
    campaign = await running_campaign(delivery.pool, 1)
    await delivery.claim(campaign, 1)
    await delivery.pool.execute(
        "INSERT INTO unknown_attempt (campaign_id, number, attempt, next_look_up_time)"
        " VALUES ($1, 1, 1, now())",
        campaign.campaign_id,
    )
    await delivery.end(delivery.instance, campaign)
    assert (await statuses(delivery.pool, campaign.campaign_id))[1] is S.QUEUED
    assert not await delivery.pool.fetch("SELECT FROM unknown_attempt")


async def test_an_unknown_attempt_is_looked_up_and_settled_by_evidence(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 3)
    await delivery.claim(campaign, 3)
    await delivery.report(campaign, *(report(n, pb.OUTCOME_UNKNOWN) for n in (1, 2, 3)))
    assert set((await statuses(delivery.pool, campaign.campaign_id)).values()) == {S.SENDING}
    leased = await delivery.look_ups.lease(campaign.campaign_id, 2)
    assert len(leased.attempts) == 2
    assert leased.content_hash == "hash-1"
    first = leased.attempts[0]
    assert first.message.recipient == recipient(first.message.number)
    await delivery.report(campaign, accepted(1), report(2, pb.OUTCOME_NOT_FOUND))
    assert (await statuses(delivery.pool, campaign.campaign_id))[1] is S.SENT
    open_numbers = await delivery.pool.fetch("SELECT number FROM unknown_attempt ORDER BY number")
    assert [row["number"] for row in open_numbers] == [2, 3]
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_unknown_attempts_for_one_recipient_are_looked_up_together(
    delivery: Delivery,
) -> None:
    """A list of the provider's can't tell them apart; whoever asks must know of all of them."""
    campaign = await running_campaign(delivery.pool, 4)
    await delivery.pool.execute(
        "UPDATE contact SET recipient_hash = (SELECT recipient_hash FROM contact WHERE number = 1)"
        " WHERE number IN (2, 3)"
    )
    await delivery.claim(campaign, 4)
    await delivery.report(campaign, *(report(n, pb.OUTCOME_UNKNOWN) for n in (1, 2, 4)))
    first = await delivery.look_ups.lease(campaign.campaign_id, 10)
    assert [attempt.message.number for attempt in first.attempts] == [4], (
        "the sender of 3 has said nothing yet: what is listed may be its message"
    )
    await delivery.report(campaign, accepted(3), accepted(4))
    together = await delivery.look_ups.lease(campaign.campaign_id, 1)
    assert [attempt.message.number for attempt in together.attempts] == [1, 2]
    assert [list(a.other_provider_message_ids) for a in together.attempts] == [["SM3"], ["SM3"]]


async def test_late_evidence_corrects_what_was_given_up(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 4)
    await delivery.claim(campaign, 4)
    await delivery.pool.execute(
        "UPDATE message SET status = 8, failure_reason = CASE number WHEN 4 THEN 2 ELSE 16 END"
    )
    await delivery.pool.execute(
        "UPDATE campaign SET sending = 0, failed = 4, status = 6, holds_channel = false"
    )
    await delivery.report(
        campaign,
        accepted(1),
        report(2, pb.OUTCOME_DELIVERED),
        report(3, pb.OUTCOME_FAILED, failure_reason=2, provider_code="30003"),
        report(4, pb.OUTCOME_DELIVERED),
    )
    assert await statuses(delivery.pool, campaign.campaign_id) == {
        1: S.ASSUMED_DELIVERED,  # accepted long ago; it must not open the campaign again
        2: S.DELIVERED,
        3: S.FAILED,
        4: S.DELIVERED,  # had a reason of its own, and was delivered after all
    }
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == CampaignStatus.COMPLETE_WITH_ERRORS
    assert row["failed"] == 1
    reasons = await delivery.pool.fetch(
        "SELECT number, failure_reason FROM message WHERE status = 8 ORDER BY number"
    )
    assert [tuple(reason) for reason in reasons] == [(3, 2)]


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
@pytest.mark.parametrize("delivered_first", [True, False], ids=["delivered first", "failed first"])
async def test_an_sms_told_as_delivered_and_as_failed_is_delivered(
    delivery: Delivery, together: bool, delivered_first: bool
) -> None:
    """Whoever has it would get it twice, were it retried as a failed one."""
    campaign = await running_campaign(delivery.pool, 1)
    await delivery.claim(campaign, 1)
    await delivery.report(campaign, accepted(1))
    told = [
        report(1, pb.OUTCOME_DELIVERED),
        report(1, pb.OUTCOME_FAILED, failure_reason=2, provider_code="30003"),
    ]
    if not delivered_first:
        told.reverse()
    for batch in [told] if together else [[one] for one in told]:
        await delivery.report(campaign, *batch)
    assert await statuses(delivery.pool, campaign.campaign_id) == {1: S.DELIVERED}
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == CampaignStatus.COMPLETE
    code = await delivery.pool.fetchval("SELECT provider_code FROM message")
    assert code is None, "the failure that was told is not true"
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_bounces_after_delivery_win_for_email(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 2, channel=Channel.EMAIL)
    await delivery.claim(campaign, 2)
    await delivery.report(campaign, accepted(1), accepted(2))
    await delivery.report(campaign, report(1, pb.OUTCOME_DELIVERED), report(2, pb.OUTCOME_DEFERRED))
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == CampaignStatus.ACTIVE_RETRIES
    assert not row["holds_channel"]
    await delivery.report(campaign, report(1, pb.OUTCOME_FAILED, failure_reason=9))
    await delivery.report(campaign, report(2, pb.OUTCOME_DELIVERED))
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == CampaignStatus.COMPLETE_WITH_ERRORS
    assert row["end_time"] is not None
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_a_refused_account_fails_the_campaign_and_cancels_the_rest(
    delivery: Delivery,
) -> None:
    campaign = await running_campaign(delivery.pool, 3)
    await delivery.claims.claim(delivery.instance, campaign.campaign_id, 1, 1, 1, 1)
    failure = pb.CampaignFailureReport(
        campaign_id=str(campaign.campaign_id),
        run=1,
        failure_reason=failure_reason_pb2.FAILURE_REASON_ACCOUNT_PROBLEM,
        provider_code="20003",
    )
    await delivery.reports.apply([pb.ReportBatch(sequence=1, campaign_failures=[failure])])
    assert (await delivery.claim(campaign, 3)).state == pb.CLAIM_STATE_NOT_RUNNING
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["failure_reason"] == FailureReason.ACCOUNT_PROBLEM


async def test_the_refusal_of_a_former_run_does_not_fail_this_one(delivery: Delivery) -> None:
    """A dead sender's journal tells of it late: the campaign was retried meanwhile."""
    campaign = await running_campaign(delivery.pool, 1)
    await delivery.pool.execute("UPDATE campaign SET run = 2")
    await delivery.fail(campaign, FailureReason.ACCOUNT_PROBLEM, run=1)
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["failure_reason"] is None
    await delivery.fail(campaign, FailureReason.ACCOUNT_PROBLEM, run=2)
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["failure_reason"] == FailureReason.ACCOUNT_PROBLEM


async def test_an_unreadable_id_is_refused_before_anything_is_stored(delivery: Delivery) -> None:
    part = pb.CampaignReports(campaign_id="not-a-uuid", reports=[accepted(1)])
    with pytest.raises(ValueError, match="UUID"):
        await delivery.reports.apply([pb.ReportBatch(sequence=1, campaigns=[part])])


async def test_concurrent_reports_and_claims_keep_the_counts_exact(delivery: Delivery) -> None:
    campaign = await running_campaign(delivery.pool, 400)

    async def sender(instance: UUID) -> None:
        while (claimed := await delivery.claim(campaign, 10, instance=instance)).messages:
            await delivery.report(
                campaign, *(accepted(message.number) for message in claimed.messages)
            )
            await delivery.report(
                campaign,
                *(report(message.number, pb.OUTCOME_DELIVERED) for message in claimed.messages),
            )

    await asyncio.gather(*(sender(uuid4()) for _ in range(6)))
    row = await campaign_row(delivery.pool, campaign.campaign_id)
    assert row["status"] == CampaignStatus.COMPLETE
    assert row["delivered"] == 400
    await assert_exact(delivery.pool, campaign.campaign_id)


async def test_the_counts_check_refuses_a_campaign_that_does_not_add_up(
    delivery: Delivery,
) -> None:
    campaign = await running_campaign(delivery.pool, 2)
    with pytest.raises(asyncpg.CheckViolationError):
        await delivery.pool.execute(
            "UPDATE campaign SET queued = 1 WHERE id = $1", campaign.campaign_id
        )

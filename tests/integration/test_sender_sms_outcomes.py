"""What each kind of answer becomes, on a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.local.ports import free_port
from outreach.sending.look_ups import PAUSES_SECONDS
from outreach.vocabulary import FailureReason, Outcome
from tests.campaign_double import CampaignDouble, Message
from tests.sender_rig import sender_rig
from tests.twilio_double import Fields, Reply, refused
from tests.waiting import eventually


def _done(campaign: CampaignDouble) -> Callable[[], bool]:
    return lambda: not {"QUEUED", "SENDING"} & set(campaign.statuses())


async def _one(
    nats_url: str,
    tmp_path: Path,
    script: Callable[[Fields, int], Reply],
    *,
    campaign: CampaignDouble | None = None,
    **changes: object,
) -> tuple[Message, int]:
    """Send one message; the message as the campaign service has it, and the number of creates."""
    async with sender_rig(nats_url, tmp_path, campaign=campaign, **changes) as rig:
        rig.twilio.script = script
        await rig.send(1)
        await eventually(_done(rig.campaign), 60, "an outcome")
        return rig.campaign.messages[1], len(rig.twilio.creates)


async def test_accepted_carries_the_sid_and_the_segments(nats_url: str, tmp_path: Path) -> None:
    message, creates = await _one(
        nats_url,
        tmp_path,
        lambda fields, tries: Reply(body={"sid": "SM1", "num_segments": "3"}),
    )
    assert message.last is not None
    assert (message.status, message.last.provider_message_id, message.last.segments) == (
        "SENT",
        "SM1",
        3,
    )
    assert creates == 1


async def test_segments_are_counted_when_twilio_says_none_yet(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = CampaignDouble(body="x" * 161)
    message, _ = await _one(nats_url, tmp_path, lambda fields, tries: Reply(), campaign=campaign)
    assert message.last is not None
    assert message.last.segments == 2


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (21211, "FAILED", FailureReason.INVALID_RECIPIENT),
        (21408, "FAILED", FailureReason.REGION_NOT_ENABLED),
        (21999, "FAILED", FailureReason.OTHER),
        (21610, "OPTED_OUT", None),
    ],
)
async def test_refused_goes_by_the_code_and_keeps_it(
    nats_url: str, tmp_path: Path, code: int, status: str, reason: FailureReason | None
) -> None:
    message, creates = await _one(nats_url, tmp_path, lambda fields, tries: refused(code))
    assert message.last is not None
    assert message.status == status
    assert message.last.failure_reason == (reason or 0)
    assert message.last.provider_code == str(code)
    assert creates == 1


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(500, {"code": 20500}), id="500"),
        pytest.param(Reply(503), id="503"),
        pytest.param(Reply(cut_after=0), id="reset before the answer"),
        pytest.param(Reply(cut_after=40), id="reset in the headers"),
        pytest.param(Reply(cut_after=110), id="reset in the body"),
        pytest.param(Reply(raw=b"<html>not json</html>"), id="an answer that is not Twilio's"),
        pytest.param(Reply(raw=b'{"sid": null}'), id="no sid"),
        pytest.param(Reply(raw=b'{"sid": ["SM1"]}'), id="a sid that is none"),
        pytest.param(Reply(raw=b"[]"), id="a list"),
        pytest.param(Reply(raw=b" " * 100_000 + b'{"sid": "SM1"}'), id="an endless answer"),
        pytest.param(Reply(302, headers={"Location": "/elsewhere"}), id="a redirect"),
        pytest.param(Reply(silent=True), id="no answer in time"),
    ],
)
async def test_what_may_have_gone_out_is_unknown_and_never_sent_again(
    nats_url: str, tmp_path: Path, reply: Reply
) -> None:
    message, creates = await _one(
        nats_url, tmp_path, lambda fields, tries: reply, sender_sms_request_seconds_max=4.0
    )
    assert message.outcomes == [(1, Outcome.UNKNOWN)]
    assert creates == 1


@pytest.mark.parametrize("told", ["99999999999", "-5", "1000"])
async def test_a_number_of_segments_that_is_none_is_not_believed(
    nats_url: str, tmp_path: Path, told: str
) -> None:
    message, creates = await _one(
        nats_url, tmp_path, lambda fields, tries: Reply(body={"sid": "SM1", "num_segments": told})
    )
    assert message.last is not None
    assert (message.status, message.last.segments, creates) == ("SENT", 1, 1)


@pytest.mark.parametrize("reply", [Reply(429, {"code": 20429}), refused(21611), refused(14107)])
async def test_throttled_is_tried_again_in_the_same_attempt(
    nats_url: str, tmp_path: Path, reply: Reply
) -> None:
    message, creates = await _one(
        nats_url, tmp_path, lambda fields, tries: reply if tries < 3 else Reply()
    )
    assert message.outcomes == [(1, Outcome.ACCEPTED)]
    assert creates == 3


async def test_throttled_until_the_window_ends_is_handed_back(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = CampaignDouble(window_seconds=1)
    async with sender_rig(nats_url, tmp_path, campaign=campaign) as rig:
        rig.twilio.script = lambda fields, tries: Reply(429)
        await rig.send(1)
        handed_back = (1, Outcome.HANDED_BACK)
        await eventually(lambda: handed_back in campaign.messages[1].outcomes, 60, "handed back")
        rig.twilio.script = lambda fields, tries: Reply()
        campaign.window_seconds = 300
        await rig.jobs.publish(1, 1)
        await eventually(lambda: campaign.statuses() == {"SENT": 1}, 60, "sent by a later attempt")
        assert campaign.messages[1].attempt > 1


async def test_nobody_listens_at_the_provider_hands_back(nats_url: str, tmp_path: Path) -> None:
    campaign = CampaignDouble(window_seconds=1)
    nobody = f"http://127.0.0.1:{free_port()}"
    async with sender_rig(nats_url, tmp_path, campaign=campaign, twilio_api_url=nobody) as rig:
        await rig.send(1)
        await eventually(lambda: campaign.messages[1].outcomes, 60, "an outcome")
        assert {outcome for _, outcome in campaign.messages[1].outcomes} == {Outcome.HANDED_BACK}
        assert rig.twilio.creates == []


async def test_a_claim_whose_window_ended_in_the_queue_is_handed_back(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = CampaignDouble(window_seconds=5)
    async with sender_rig(
        nats_url,
        tmp_path,
        campaign=campaign,
        sender_sms_concurrency_max=1,
        sender_sms_concurrency_start=1,
    ) as rig:
        rig.twilio.hold = asyncio.Event()
        await rig.send(3)
        await eventually(lambda: rig.twilio.open == 1, 60, "the first is under way")
        claimed = campaign.messages[2].claim_time
        assert claimed is not None
        await eventually(
            lambda: (datetime.now(UTC) - claimed).total_seconds() > 5.2, 60, "the window is over"
        )
        campaign.window_seconds = 300
        rig.twilio.hold.set()
        await eventually(lambda: campaign.messages[1].status == "SENT", 60, "what had begun")
        await eventually(lambda: campaign.messages[3].outcomes, 60, "the last one's outcome")
        for number in (2, 3):
            assert campaign.messages[number].outcomes[0] == (1, Outcome.HANDED_BACK)


@pytest.mark.parametrize("reply", [refused(20003, 401), Reply(403), refused(20404, 404)])
async def test_a_refused_account_fails_the_campaign_and_sends_no_more(
    nats_url: str, tmp_path: Path, reply: Reply
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        rig.twilio.script = lambda fields, tries: reply
        await rig.send(300)
        await eventually(lambda: rig.campaign.failures, 60, "the campaign's failure")
        await eventually(
            lambda: "SENDING" not in rig.campaign.statuses(), 60, "everything is handed back"
        )
        (failure,) = rig.campaign.failures
        assert FailureReason(failure.failure_reason) is FailureReason.ACCOUNT_PROBLEM
        assert rig.campaign.statuses() == {"QUEUED": 300}
        assert len(rig.twilio.creates) <= rig.settings.sender_sms_concurrency_max
        await rig.jobs.publish(1, 300)


async def test_an_organisation_without_account_fails_the_campaign(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = CampaignDouble()
    campaign.has_account = False
    async with sender_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await rig.send(5)
        await eventually(lambda: campaign.failures, 60, "the campaign's failure")
        await eventually(lambda: campaign.statuses() == {"QUEUED": 5}, 60, "handed back")
        assert rig.twilio.creates == []


async def test_a_missing_variable_is_refused_without_a_request_when_asked(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = CampaignDouble()
    campaign.skip_incomplete = True
    async with sender_rig(nats_url, tmp_path, campaign=campaign) as rig:
        campaign.add(2)
        campaign.messages[1].values = [""]
        await rig.jobs.publish(1, 2)
        await eventually(_done(campaign), 60, "both outcomes")
        report = campaign.messages[1].last
        assert report is not None
        assert FailureReason(report.failure_reason) is FailureReason.MISSING_VARIABLE
        assert [fields["To"] for fields in rig.twilio.creates] == [campaign.messages[2].recipient]


async def test_a_missing_variable_is_delivered_as_it_stands_by_default(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        rig.campaign.add(1)
        rig.campaign.messages[1].values = [""]
        await rig.jobs.publish(1, 1)
        await eventually(_done(rig.campaign), 60, "sent")
        assert rig.twilio.creates[0]["Body"] == "Hello {{name}}"


async def test_too_long_a_text_is_refused_without_a_request(nats_url: str, tmp_path: Path) -> None:
    campaign = CampaignDouble(body="{{name}}" + "x" * 1_595)
    message, creates = await _one(
        nats_url, tmp_path, lambda fields, tries: Reply(), campaign=campaign
    )
    assert message.last is not None
    assert FailureReason(message.last.failure_reason) is FailureReason.CONTENT_REJECTED
    assert message.last.provider_code == "21617"
    assert creates == 0


async def test_throttling_brings_concurrency_down_below_the_providers_limit(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path, sender_sms_concurrency_start=64) as rig:
        double = rig.twilio

        def script(fields: Fields, tries: int) -> Reply:
            if double.open > 8:
                return Reply(429, headers={"Twilio-Concurrent-Requests": str(double.open)})
            return Reply()

        double.script = script
        await rig.send(400)
        await eventually(lambda: rig.campaign.statuses() == {"SENT": 400}, 240, "all sent")
        assert len({to for to, _ in double.accepted}) == len(double.accepted) == 400


def _unknown(campaign: CampaignDouble, number: int) -> delivery_pb2.UnknownAttempt:
    message = campaign.messages[number]
    attempt = delivery_pb2.UnknownAttempt(
        message=delivery_pb2.ClaimedMessage(
            number=number,
            attempt=message.attempt,
            recipient=message.recipient,
            values=message.values,
        )
    )
    attempt.claim_time.FromDatetime(datetime.now(UTC))
    return attempt


async def test_look_ups_find_what_was_created_and_say_what_was_not(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        campaign, twilio = rig.campaign, rig.twilio
        twilio.script = lambda fields, tries: Reply(500)
        await rig.send(3)
        await eventually(lambda: campaign.statuses() == {"UNKNOWN": 3}, 60, "all unknown")
        twilio.list_message(campaign.messages[1].recipient, "Hello name 1", "SMfound1")
        twilio.list_message(
            campaign.messages[2].recipient,
            "Hello name 2",
            "SMfound2",
            status="undelivered",
            error_code=30003,
        )
        campaign.unknown_due = [_unknown(campaign, number) for number in (1, 2, 3)]
        await rig.jobs.publish(0, 0, kind="look_up")
        await eventually(lambda: len(campaign.messages[3].outcomes) == 2, 60, "looked up")
        assert campaign.messages[1].status == "SENT"
        assert campaign.messages[1].last is not None
        assert campaign.messages[1].last.provider_message_id == "SMfound1"
        assert campaign.messages[2].last is not None
        assert campaign.messages[2].last.provider_code == "30003"
        assert campaign.messages[3].outcomes[1] == (1, Outcome.NOT_FOUND)
        assert all(query["PageSize"] == ["1000"] for query in twilio.queries)


async def test_accepted_messages_are_asked_for_by_their_ids(nats_url: str, tmp_path: Path) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        campaign, twilio = rig.campaign, rig.twilio
        await rig.send(5)
        await eventually(lambda: campaign.statuses() == {"SENT": 5}, 60, "all sent")
        sids = {number: campaign.messages[number].last for number in range(1, 6)}
        due = []
        for number, status in enumerate(("delivered", "undelivered", "sent", "teleported"), 1):
            last = sids[number]
            assert last is not None
            to = campaign.messages[number].recipient
            code = 30003 if status == "undelivered" else None
            twilio.list_message(
                to, "", last.provider_message_id, status=status, error_code=code, num_segments="2"
            )
        for number in range(1, 6):
            attempt = _unknown(campaign, number)
            last = sids[number]
            assert last is not None
            attempt.provider_message_id = last.provider_message_id
            due.append(attempt)
        campaign.unknown_due = due
        await rig.jobs.publish(0, 0, kind="look_up")
        await eventually(lambda: all(len(campaign.messages[n].outcomes) == 2 for n in sids), 60)
        assert sorted(twilio.fetched) == sorted(attempt.provider_message_id for attempt in due)
        assert not twilio.queries, "the list is for those without an id"
        assert {number: campaign.messages[number].outcomes[1][1] for number in sids} == {
            1: Outcome.DELIVERED,
            2: Outcome.FAILED,
            3: Outcome.NOT_FOUND,  # no news
            4: Outcome.NOT_FOUND,
            5: Outcome.NOT_FOUND,  # Twilio does not know it any more
        }
        assert campaign.messages[2].last is not None
        assert campaign.messages[2].last.provider_code == "30003"


async def test_while_twilio_answers_nothing_it_is_not_asked_for_the_rest(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_rig(nats_url, tmp_path) as rig:
        campaign, twilio = rig.campaign, rig.twilio
        await rig.send(1)
        await eventually(lambda: campaign.statuses() == {"SENT": 1}, 60, "sent")
        last = campaign.messages[1].last
        assert last is not None
        twilio.list_message(campaign.messages[1].recipient, "", last.provider_message_id)
        attempt = _unknown(campaign, 1)
        attempt.provider_message_id = last.provider_message_id
        campaign.unknown_due, campaign.unknown_stays_due = [attempt], True
        twilio.fetch_status = 429
        await rig.jobs.publish(0, 0, kind="look_up")
        tries = len(PAUSES_SECONDS) + 1
        await eventually(lambda: len(twilio.fetched) == tries, 60, "asked")
        await rig.jobs.none_left()
        assert len(twilio.fetched) == tries
        assert len(campaign.messages[1].outcomes) == 1, "nothing was learned"


async def test_sends_that_take_long_hold_up_no_look_up(nats_url: str, tmp_path: Path) -> None:
    """One organisation's jobs, each waiting for room to claim more, do not take every turn."""
    async with sender_rig(
        nats_url, tmp_path, sender_sms_concurrency_start=1, sender_sms_request_seconds_max=300.0
    ) as rig:
        campaign, twilio = rig.campaign, rig.twilio
        await rig.send(1)
        await eventually(lambda: campaign.statuses() == {"SENT": 1}, 60, "sent")
        last = campaign.messages[1].last
        assert last is not None
        attempt = _unknown(campaign, 1)
        attempt.provider_message_id = last.provider_message_id
        twilio.hold = asyncio.Event()
        for _ in range(6):
            await rig.send(400)
        await eventually(lambda: twilio.open >= 1, 60, "sending")
        campaign.unknown_due = [attempt]
        await rig.jobs.publish(0, 0, kind="look_up")
        await eventually(lambda: twilio.fetched == [last.provider_message_id], 60, "looked up")
        twilio.hold.set()


async def test_look_ups_that_take_long_hold_up_no_send(nats_url: str, tmp_path: Path) -> None:
    """They are published anew every second, and the provider may be slow to tell of thousands."""
    async with sender_rig(nats_url, tmp_path, sender_sms_request_seconds_max=300.0) as rig:
        campaign, twilio = rig.campaign, rig.twilio
        twilio.script = lambda fields, tries: Reply(500)
        await rig.send(1)
        await eventually(lambda: campaign.statuses() == {"UNKNOWN": 1}, 60, "unknown")
        twilio.script = lambda fields, tries: Reply()
        twilio.hold_lists = asyncio.Event()
        campaign.unknown_due = [_unknown(campaign, 1)]
        campaign.unknown_stays_due = True
        for _ in range(70):
            await rig.jobs.publish(0, 0, kind="look_up")
        await eventually(lambda: twilio.queries, 60, "looked up")
        await rig.send(5)
        await eventually(
            lambda: campaign.statuses() == {"UNKNOWN": 1, "SENT": 5}, 60, "the others are sent"
        )
        assert len(twilio.queries) == 1, "one after the other, of a campaign"
        twilio.hold_lists.set()
        await eventually(lambda: len(campaign.messages[1].outcomes) > 1, 60, "it ends")


async def test_a_listed_message_is_not_taken_for_two_attempts(
    nats_url: str, tmp_path: Path
) -> None:
    """The same recipient twice in a file, with the same text; only one of the two was created."""
    campaign = CampaignDouble(body="Hello")
    async with sender_rig(nats_url, tmp_path, campaign=campaign) as rig:
        twilio = rig.twilio
        twilio.script = lambda fields, tries: Reply(500)
        campaign.add(2)
        campaign.messages[2].recipient = campaign.messages[1].recipient
        await rig.jobs.publish(1, 2)
        await eventually(lambda: campaign.statuses() == {"UNKNOWN": 2}, 60, "both unknown")
        twilio.list_message(campaign.messages[1].recipient, "Hello", "SMone")
        campaign.unknown_due = [_unknown(campaign, number) for number in (1, 2)]
        await rig.jobs.publish(0, 0, kind="look_up")
        await eventually(lambda: len(campaign.messages[2].outcomes) == 2, 60, "looked up")
        assert campaign.statuses() == {"SENT": 1, "UNKNOWN": 1}
        twilio.list_message(campaign.messages[1].recipient, "Hello", "SMtwo")
        again = _unknown(campaign, 2)
        again.other_provider_message_ids.append("SMone")
        campaign.unknown_due = [again]
        await rig.jobs.publish(0, 0, kind="look_up")
        await eventually(lambda: campaign.statuses() == {"SENT": 2}, 60, "both found")
        ids = {
            message.last.provider_message_id
            for message in campaign.messages.values()
            if message.last
        }
        assert ids == {"SMone", "SMtwo"}

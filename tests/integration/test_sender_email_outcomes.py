"""What the email sender makes of SendGrid's answers, against the sandbox as a process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.sending import worker
from outreach.vocabulary import FailureReason, Outcome
from services.sandbox.sendgrid.fates import email_fate_of
from services.sandbox.sendgrid.knobs import SCOPES, EmailKnobs
from tests.campaign_double import hash_of
from tests.email_campaign_double import EmailCampaignDouble, compiled
from tests.sender_email_rig import EmailRig, sender_email_rig
from tests.waiting import eventually

COUNT = 1_000


def _addresses_with(rejection: str, count: int, **knobs: float) -> set[str]:
    """Whom the sandbox refuses under these knobs."""
    chosen = EmailKnobs.model_validate(knobs)
    addresses = [f"person-{number:05d}@example.org" for number in range(1, count + 1)]
    return {
        address
        for address in addresses
        if email_fate_of(chosen, "outreach", address).rejection == rejection
    }


def _once(rig: EmailRig) -> None:
    """Each message has one outcome, of its first attempt."""
    for message in rig.campaign.messages.values():
        assert len(message.outcomes) == 1
        assert message.attempt == message.outcomes[0][0] == 1


async def _accepted(rig: EmailRig) -> set[str]:
    totals = await rig.sandbox.totals()
    assert totals["attempts_accepted_more_than_once"] == 0
    rows = await rig.sandbox.rows()
    assert len(rows) == len({row["email"] for row in rows}), "nobody twice"
    return {row["email"] for row in rows}


@pytest.mark.parametrize(
    ("knob", "rejection", "reason", "code"),
    [
        (
            {"rejected_share": 0.05},
            "named",
            FailureReason.INVALID_RECIPIENT,
            "HTTP 400 personalizations.to.email",
        ),
        (
            {"rejected_share": 0.9},
            "named",
            FailureReason.INVALID_RECIPIENT,
            "HTTP 400 personalizations.to.email",
        ),
        ({"rejected_unnamed_share": 0.01}, "unnamed", FailureReason.OTHER, "HTTP 400"),
    ],
)
async def test_a_400_costs_only_the_recipients_it_is_about(
    nats_url: str,
    tmp_path: Path,
    knob: dict[str, object],
    rejection: str,
    reason: FailureReason,
    code: str,
) -> None:
    refused = _addresses_with(rejection, COUNT, **knob)  # type: ignore[arg-type]
    assert 1 < len(refused) < COUNT
    async with sender_email_rig(nats_url, tmp_path, knobs=knob) as rig:
        await rig.send(COUNT)
        await rig.settled({"SENT": COUNT - len(refused), "FAILED": len(refused)})
        _once(rig)
        messages = rig.campaign.messages.values()
        failed = [message for message in messages if message.status == "FAILED"]
        assert {message.recipient for message in failed} == refused
        reports = [message.last for message in failed if message.last is not None]
        assert {FailureReason(report.failure_reason) for report in reports} == {reason}
        assert {report.provider_code for report in reports} == {code}
        assert await _accepted(rig) == {message.recipient for message in messages} - refused
        assert not rig.campaign.failures
        assert rig.campaign.claims <= 2, "all under one claim"
        requests_refused = (await rig.sandbox.totals())["requests_refused"]["http_400"]
        assert rejection == "unnamed" or requests_refused == 1


async def test_when_nobody_is_accepted_and_nothing_named_the_campaign_fails(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_email_rig(nats_url, tmp_path, knobs={"rejected_unnamed_share": 1.0}) as rig:
        await rig.send(COUNT)
        await eventually(lambda: rig.campaign.failures, 240, "the campaign's failure")
        await eventually(lambda: "SENDING" not in rig.campaign.statuses(), 60, "handed back")
        (failure,) = rig.campaign.failures
        assert FailureReason(failure.failure_reason) is FailureReason.CONTENT_REJECTED
        assert rig.campaign.statuses()["FAILED"] == 10, "those who were asked for one by one"
        assert rig.campaign.statuses()["QUEUED"] == COUNT - 10


async def test_too_large_a_request_is_halved(nats_url: str, tmp_path: Path) -> None:
    async with sender_email_rig(nats_url, tmp_path, knobs={"request_bytes_max": 300_000}) as rig:
        await rig.send(COUNT)
        await rig.settled({"SENT": COUNT})
        _once(rig)
        assert len(await _accepted(rig)) == COUNT
        assert (await rig.sandbox.totals())["requests_refused"]["http_413"] >= 1


async def test_a_content_too_large_for_anybody_fails_the_campaign(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = EmailCampaignDouble(email=compiled(html="<p>" + "long " * 2_000 + HTML_LINK))
    async with sender_email_rig(
        nats_url, tmp_path, campaign=campaign, knobs={"request_bytes_max": 8_000}
    ) as rig:
        await rig.send(40)
        await eventually(lambda: campaign.failures, 240, "the campaign's failure")
        await rig.settled({"QUEUED": 40})
        (failure,) = campaign.failures
        assert FailureReason(failure.failure_reason) is FailureReason.CONTENT_REJECTED
        assert failure.provider_code == "HTTP 413"


HTML_LINK = '<a href="{{unsubscribe_url}}">unsubscribe</a>'


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("wrong key", FailureReason.ACCOUNT_PROBLEM),
        ("no right to send", FailureReason.ACCOUNT_PROBLEM),
        ("sender not verified", FailureReason.SENDER_NOT_ALLOWED),
        ("sender refused", FailureReason.SENDER_NOT_ALLOWED),
    ],
)
async def test_a_refused_account_fails_the_campaign_and_sends_no_more(
    nats_url: str, tmp_path: Path, case: str, reason: FailureReason
) -> None:
    campaign = EmailCampaignDouble()
    knobs: dict[str, object] = {}
    match case:
        case "wrong key":
            campaign.api_key = "SG.another"
        case "no right to send":
            knobs["scopes"] = [scope for scope in SCOPES if scope != "mail.send"]
        case "sender not verified":
            campaign.sender = "somebody@else.example"
        case "sender refused":
            campaign.sender = "nobody"  # a 400 that names `from.email`
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign, knobs=knobs) as rig:
        await rig.send(3_000)
        await eventually(lambda: campaign.failures, 240, "the campaign's failure")
        await rig.settled({"QUEUED": 3_000})
        (failure,) = campaign.failures
        assert FailureReason(failure.failure_reason) is reason
        assert failure.provider_code.startswith("HTTP 40")
        assert await _accepted(rig) == set()
        await rig.dispatch()


async def test_a_key_that_was_replaced_meanwhile_fails_nothing(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender knows the former one for up to a minute."""
    monkeypatch.setattr(worker, "ACCOUNT_YOUNG_SECONDS", 0.0)
    campaign = EmailCampaignDouble()
    key, campaign.api_key = campaign.api_key, "SG.former"
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await eventually(lambda: campaign.account_checks, 60, "the former key is known")
        campaign.api_key = key
        await rig.send(3_000)
        await eventually(lambda: campaign.messages[3_000].outcomes, 240, "the last ones' outcome")
        await rig.dispatch()
        await rig.settled({"SENT": 3_000})
        assert campaign.failures == []


async def test_a_key_that_is_still_refused_when_asked_for_anew_fails_the_campaign(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "ACCOUNT_YOUNG_SECONDS", 0.0)
    campaign = EmailCampaignDouble()
    campaign.api_key = "SG.another"
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await rig.send(3_000)
        await eventually(lambda: campaign.failures, 240, "the campaign's failure")
        await rig.settled({"QUEUED": 3_000})
        assert len(campaign.failures) == 1


async def test_throttled_waits_for_the_reset_and_is_tried_again_in_the_same_attempt(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_email_rig(
        nats_url, tmp_path, knobs={"http_429_share": 1.0, "http_429_reset_seconds": 2}
    ) as rig:
        await rig.send(COUNT)
        await rig.settled({"SENT": COUNT})
        _once(rig)
        assert (await rig.sandbox.totals())["requests_refused"] == {"http_429": 1}


async def test_throttled_beyond_the_window_is_handed_back_and_claimed_later(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = EmailCampaignDouble(window_seconds=5)
    async with sender_email_rig(
        nats_url,
        tmp_path,
        campaign=campaign,
        knobs={"http_429_share": 1.0, "http_429_reset_seconds": 9},
    ) as rig:
        await rig.send(COUNT)
        handed_back = [(1, Outcome.HANDED_BACK)]
        await eventually(lambda: campaign.messages[1].outcomes == handed_back, 60, "handed back")
        await rig.settled({"QUEUED": COUNT})
        assert (await rig.sandbox.totals())["requests_refused"] == {"http_429": 1}
        campaign.window_seconds = 300
        await rig.dispatch()
        await eventually(lambda: campaign.statuses() == {"SENT": COUNT}, 240, "sent")
        assert campaign.messages[1].outcomes == [*handed_back, (2, Outcome.ACCEPTED)]
        assert campaign.claims == 2, "none for a lane that had to wait"
        assert (await rig.sandbox.totals())["requests_refused"] == {"http_429": 1}
        await rig.jobs.none_left()


def unknown_attempt(campaign: EmailCampaignDouble, number: int) -> delivery_pb2.UnknownAttempt:
    message = campaign.messages[number]
    attempt = delivery_pb2.UnknownAttempt(
        message=delivery_pb2.ClaimedMessage(
            number=number,
            attempt=message.attempt,
            recipient=message.recipient,
            values=message.values,
            recipient_hash=hash_of(message.recipient),
        )
    )
    assert message.claim_time is not None
    attempt.claim_time.FromDatetime(message.claim_time.astimezone(UTC))
    return attempt


@pytest.mark.parametrize("kind", ["http_500", "drop"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("by", ["activity", "logs"])
async def test_what_may_have_gone_out_is_never_sent_again_and_looked_up(
    nats_url: str, tmp_path: Path, kind: str, when: str, by: str
) -> None:
    knobs: dict[str, object] = {f"{kind}_{when}_accept_share": 1.0}
    if by == "logs":
        knobs["scopes"] = [scope for scope in SCOPES if scope != "email_activity.read"]
    async with sender_email_rig(nats_url, tmp_path, knobs=knobs) as rig:
        campaign = rig.campaign
        await rig.send(20)
        await rig.settled({"UNKNOWN": 20})
        _once(rig)
        assert len(await _accepted(rig)) == (20 if when == "after" else 0)
        await rig.sandbox.set(
            http_500_before_accept_share=0.0,
            http_500_after_accept_share=0.0,
            drop_before_accept_share=0.0,
            drop_after_accept_share=0.0,
        )
        campaign.unknown_due = [unknown_attempt(campaign, number) for number in range(1, 21)]
        await rig.dispatch(kind="look_up")
        await eventually(
            lambda: all(len(m.outcomes) == 2 for m in campaign.messages.values()), 60, "looked up"
        )
        expected = {"DELIVERED": 20} if when == "after" else {"UNKNOWN": 20}
        assert campaign.statuses() == expected
        if when == "before":
            assert campaign.messages[3].outcomes[1] == (1, Outcome.NOT_FOUND)
        assert (await rig.sandbox.totals())["requests"] <= 1, "nothing was sent again"


async def test_a_look_up_tells_of_bounces_with_their_reason(nats_url: str, tmp_path: Path) -> None:
    knobs: dict[str, object] = {
        "drop_after_accept_share": 1.0,
        "bounced_classes": {"Invalid Address": 1.0},
    }
    async with sender_email_rig(nats_url, tmp_path, knobs=knobs) as rig:
        await rig.send(2)
        await rig.settled({"UNKNOWN": 2})
        rig.campaign.unknown_due = [unknown_attempt(rig.campaign, 1)]
        await rig.dispatch(kind="look_up")
        await rig.settled({"UNKNOWN": 1, "FAILED": 1})
        report = rig.campaign.messages[1].last
        assert report is not None
        (row,) = [r for r in await rig.sandbox.rows() if r["email"].startswith("person-00001")]
        assert report.provider_message_id == row["sg_message_id"]
        assert report.failure_reason


async def test_a_look_up_that_can_not_be_made_says_nothing(nats_url: str, tmp_path: Path) -> None:
    campaign = EmailCampaignDouble()
    campaign.api_key = "SG.another"
    campaign.add(1)
    message = campaign.messages[1]
    message.status, message.attempt, message.claim_time = "UNKNOWN", 1, datetime.now(UTC)
    campaign.unknown_due = [unknown_attempt(campaign, 1)]
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await rig.dispatch(kind="look_up")
        await eventually(lambda: not campaign.unknown_due, 60, "asked for what is due")
        await rig.jobs.none_left()
        assert message.outcomes == []


async def test_a_missing_variable_is_refused_without_a_request_when_asked(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = EmailCampaignDouble()
    campaign.skip_incomplete = True
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        campaign.add(4)
        campaign.messages[1].values[0] = ""
        campaign.messages[2].values[1] = ""  # has a fallback
        await rig.dispatch()
        await rig.settled({"SENT": 3, "FAILED": 1})
        report = campaign.messages[1].last
        assert report is not None
        assert FailureReason(report.failure_reason) is FailureReason.MISSING_VARIABLE
        assert len(await _accepted(rig)) == 3
        assert "of your town" in (await rig.sandbox.email("person-00002@example.org"))["text"]


async def test_a_missing_variable_is_refused_also_where_the_request_is_divided(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = EmailCampaignDouble()
    campaign.skip_incomplete = True
    campaign.add(5)
    campaign.messages[2].values[0] = ""
    campaign.messages[5].recipient = campaign.messages[1].recipient  # not in one request
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await rig.dispatch()
        await rig.settled({"SENT": 4, "FAILED": 1})
        assert all(len(message.outcomes) == 1 for message in campaign.messages.values())


async def test_a_missing_variable_is_delivered_as_it_stands_by_default(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_email_rig(nats_url, tmp_path) as rig:
        rig.campaign.add(1)
        rig.campaign.messages[1].values[0] = ""
        await rig.dispatch()
        await rig.settled({"SENT": 1})
        email = await rig.sandbox.email("person-00001@example.org")
        assert email["subject"] == "Hello {{name}}"


async def test_a_retry_is_sent_past_the_list_of_bounces(nats_url: str, tmp_path: Path) -> None:
    async with sender_email_rig(
        nats_url, tmp_path, knobs={"bounced_classes": {"Mailbox Unavailable": 1.0}}
    ) as rig:
        await rig.send(4)
        await rig.settled({"SENT": 4})

        async def bounced() -> bool:
            return len(await rig.sandbox.ask("GET", "/v3/suppression/bounces")) == 4

        await eventually(bounced, 60, "all bounced")
        for number, message in rig.campaign.messages.items():
            message.status = "QUEUED"
            message.is_retry = number > 2
        await rig.dispatch()
        await rig.settled({"SENT": 4})
        rows = (await rig.sandbox.rows())[4:]
        assert {row["email"]: row["drop_reason"] for row in rows} == {
            "person-00001@example.org": "Bounced Address",
            "person-00002@example.org": "Bounced Address",
            "person-00003@example.org": None,
            "person-00004@example.org": None,
        }

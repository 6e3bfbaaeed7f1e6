"""The email sender from job to acknowledged report, against real peers."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from outreach.sending.attempt_token import AttemptId, TokenKey
from outreach.sending.worker import ATTACHMENT_FAULTS_MAX
from outreach.vocabulary import FailureReason, Outcome
from tests.email_campaign_double import EmailCampaignDouble, compiled
from tests.sender_email_rig import PUBLIC_URL, sender_email_rig
from tests.sender_rig import TOKEN_KEY
from tests.waiting import eventually

KEY = TokenKey(TOKEN_KEY)


async def test_every_message_of_a_job_is_sent_once_and_reported(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_email_rig(nats_url, tmp_path) as rig:
        await rig.send(2_500)
        await rig.settled({"SENT": 2_500})
        rows = await rig.sandbox.rows()
        assert len({row["email"] for row in rows}) == len(rows) == 2_500
        assert len({row["sg_message_id"].partition(".")[0] for row in rows}) == 3, "requests"
        attempts = {row["email"]: KEY.read_attempt(row["attempt"]) for row in rows}
        campaign = rig.campaign
        for number, message in campaign.messages.items():
            assert attempts[message.recipient] == AttemptId(
                campaign.organisation_id, campaign.campaign_id, number, 1
            )
            assert message.outcomes == [(1, Outcome.ACCEPTED)]
        by_email = {row["email"]: row["sg_message_id"] for row in rows}
        for message in campaign.messages.values():
            assert message.last is not None
            message_id = message.last.provider_message_id
            assert message_id
            assert by_email[message.recipient].startswith(f"{message_id}.")
        assert (campaign.content_calls, campaign.account_calls) == (1, 1)
        await rig.jobs.none_left()
    journals = tmp_path / "journals"
    assert list(journals.iterdir()) == [], "a sender that ended well leaves no journal"


async def test_what_a_recipient_gets(nats_url: str, tmp_path: Path) -> None:
    async with sender_email_rig(nats_url, tmp_path) as rig:
        await rig.send(3)
        await rig.settled({"SENT": 3})
        email = await rig.sandbox.email("person-00002@example.org")
        assert email["subject"] == "Hello Name 2"
        assert "Dear Name 2 of City 2" in email["html"]
        assert "Dear Name 2 of City 2" in email["text"]
        assert "https://shop.example/?code=C-2" in email["html"]
        headers = dict(email["headers"])
        assert headers["From"] == '"Outreach" <campaigns@outreach.example>'
        assert headers["Reply-To"] == "answers@mail.outreach.example"
        assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        link = headers["List-Unsubscribe"].strip("<>")
        assert link.startswith(f"{PUBLIC_URL}/unsubscribe/")
        assert link in email["html"]
        assert link in email["text"]
        assert set(email["custom_args"]) == {"attempt_id", "recipient_hash"}
        unsubscribe = KEY.read_unsubscribe(link.rpartition("/")[2])
        assert email["custom_args"]["recipient_hash"] == unsubscribe.recipient_hash.hex()
        others = await rig.sandbox.email("person-00003@example.org")
        assert dict(others["headers"])["List-Unsubscribe"] != headers["List-Unsubscribe"]


async def test_hostile_values_stay_values(nats_url: str, tmp_path: Path) -> None:
    hostile = "<script>\"';{{code}} 100% 😀\r\nBcc: x@example.org"
    async with sender_email_rig(nats_url, tmp_path) as rig:
        rig.campaign.add(2)
        rig.campaign.messages[1].values = [hostile, hostile, hostile]
        await rig.dispatch()
        await rig.settled({"SENT": 2})
        email = await rig.sandbox.email("person-00001@example.org")
        assert email["subject"] == "Hello <script>\"';{{code}} 100% 😀 Bcc: x@example.org"
        assert "<script" not in email["html"]
        assert "&lt;script&gt;" in email["html"]
        assert "?code=%3Cscript%3E" in email["html"]
        assert hostile in email["text"]
        assert "{{code}}" in email["html"], "a value is not parsed again"
        assert [name for name, _ in email["headers"]].count("Bcc") == 0


async def test_a_recipient_with_too_much_text_gets_a_request_alone(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_email_rig(nats_url, tmp_path) as rig:
        rig.campaign.add(50)
        rig.campaign.messages[7].values[0] = "é<" * 10_000
        await rig.dispatch()
        await rig.settled({"SENT": 50})
        rows = await rig.sandbox.rows()
        assert len(rows) == 50
        assert len({row["sg_message_id"].partition(".")[0] for row in rows}) == 2
        email = await rig.sandbox.email("person-00007@example.org")
        assert "é&lt;" * 10_000 in email["html"]
        assert "Dear Name 8 of" in (await rig.sandbox.email("person-00008@example.org"))["html"]
        assert KEY.read_attempt(email["custom_args"]["attempt_id"]).number == 7
        assert dict(email["headers"])["List-Unsubscribe"].strip("<>") in email["html"]


async def test_the_same_address_twice_is_sent_in_two_requests(
    nats_url: str, tmp_path: Path
) -> None:
    async with sender_email_rig(nats_url, tmp_path) as rig:
        rig.campaign.add(6)
        rig.campaign.messages[4].recipient = "PERSON-00001@example.org"
        rig.campaign.messages[5].recipient = "person-00001@Example.org"
        await rig.dispatch()
        await rig.settled({"SENT": 6})
        rows = await rig.sandbox.rows()
        assert len(rows) == 6
        numbers = {KEY.read_attempt(row["attempt"]).number for row in rows}
        assert numbers == {1, 2, 3, 4, 5, 6}
        assert (await rig.sandbox.totals())["requests_refused"] == {}


async def test_attachments_are_fetched_once_and_arrive(nats_url: str, tmp_path: Path) -> None:
    campaign = EmailCampaignDouble()
    campaign.attachments = {"terms": b"%PDF " + bytes(range(256)) * 12_000, "map": b"small"}
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await rig.send(2_001)
        await rig.settled({"SENT": 2_001})
        assert campaign.attachment_calls == ["terms", "map"]
        email = await rig.sandbox.email("person-02001@example.org")
        assert email["attachments"] == [
            {
                "filename": f"{name}.pdf",
                "type": "application/pdf",
                "disposition": "attachment",
                "content_id": "",
                "size_bytes": len(body),
            }
            for name, body in campaign.attachments.items()
        ]


async def test_an_attachment_that_is_another_is_never_sent(nats_url: str, tmp_path: Path) -> None:
    campaign = EmailCampaignDouble()
    campaign.attachments = {"terms": b"the terms"}
    campaign.checksums = {"terms": "0" * 64}
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await rig.send(10)
        await eventually(lambda: len(campaign.attachment_calls) >= 2, 60, "tried again")
        assert (await rig.sandbox.totals())["accepted"] == 0
        assert not campaign.failures
        campaign.checksums = {}
        await rig.settled({"SENT": 10})
        assert (await rig.sandbox.totals())["accepted"] == 10


@pytest.mark.parametrize("gone", [False, True])
async def test_an_attachment_that_never_fits_fails_the_campaign(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    campaign = EmailCampaignDouble()
    campaign.attachments = {"terms": b"the terms"}
    campaign.checksums = {"terms": "0" * 64}
    content = campaign.content()
    monkeypatch.setattr(campaign, "content", lambda: content)
    if gone:
        campaign.attachments = {}
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await rig.send(10)
        await eventually(lambda: campaign.failures, 60, "given up")
        (failure,) = campaign.failures
        assert FailureReason(failure.failure_reason) is FailureReason.CONTENT_REJECTED
        fault = "ATTACHMENT_NOT_FOUND" if gone else "ATTACHMENT_CHECKSUM_DIFFERS"
        assert failure.provider_code == fault
        assert len(campaign.attachment_calls) == ATTACHMENT_FAULTS_MAX
        assert (await rig.sandbox.totals())["accepted"] == 0


@pytest.mark.parametrize("is_test", [False, True])
async def test_a_test_send_says_so(nats_url: str, tmp_path: Path, is_test: bool) -> None:
    campaign = EmailCampaignDouble(email=compiled(subject="[Test] Hello"))
    campaign.is_test = is_test
    async with sender_email_rig(nats_url, tmp_path, campaign=campaign) as rig:
        await rig.send(1)
        await rig.settled({"SENT": 1})
        arguments = (await rig.sandbox.email("person-00001@example.org"))["custom_args"]
        assert arguments.get("test") == ("true" if is_test else None)
        assert KEY.read_attempt(arguments["attempt_id"]).campaign_id == UUID(
            bytes=campaign.campaign_id.bytes
        )

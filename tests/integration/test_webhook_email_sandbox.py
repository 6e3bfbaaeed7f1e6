"""Events as the sandbox posts them: signed, in batches, twice, reordered, with fields missing; its key changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from outreach.local.ports import free_port
from outreach.vocabulary import FailureReason
from services.sandbox.app import Sandbox, running
from services.sandbox.knobs import Knobs
from services.sandbox.settings import SandboxSettings
from tests.email_webhook_rig import EmailCampaign, EmailRig, email_rig
from tests.sandbox_email_parts import QUICK, asked, mail, personalization
from tests.waiting import eventually

SPREAD = {
    "deferred_then_delivered_share": 0.15,
    "deferred_for_ever_share": 0.05,
    "bounced_classes": {"Invalid Address": 0.05, "Mailbox Unavailable": 0.05},
    "blocked_classes": {"Reputation": 0.05, "Content": 0.05, "Technical": 0.05},
    "dropped_reasons": {"Unsubscribed Address": 0.05, "Bounced Address": 0.05},
    "bounced_after_delivery_share": 0.1,
    "no_final_event_share": 0.05,
    "open_share": 0.3,
    "click_share": 0.1,
    "spamreport_share": 0.05,
    "unsubscribe_share": 0.05,
    "group_unsubscribe_share": 0.05,
}

#: The sandbox's last word on a message → what it has become.
STATUS_OF = {
    "delivered": "DELIVERED",
    "bounce": "FAILED",
    "blocked": "FAILED",
    "deferred": "RETRYING",
    "processed": "SENT",
}
REASON_OF = {
    "Invalid Address": FailureReason.INVALID_RECIPIENT,
    "Mailbox Unavailable": FailureReason.MAILBOX_UNAVAILABLE,
    "Reputation": FailureReason.BLOCKED_BY_CARRIER_OR_SERVER,
    "Content": FailureReason.FILTERED_AS_SPAM,
    "Technical": FailureReason.UNREACHABLE,
    "Bounced Address": FailureReason.PREVIOUSLY_BOUNCED,
}


@asynccontextmanager
async def sandbox(port: int, event_url: str, **knobs: Any) -> AsyncIterator[Sandbox]:
    settings = SandboxSettings(
        http_port=port,
        seed="test",
        knobs=Knobs.model_validate({"email": {**QUICK, **knobs}}),
        sendgrid_event_url=event_url,
    )
    async with running(settings) as started:
        yield started


async def send(rig: EmailRig, at: Sandbox, numbers: range) -> None:
    """One request to the sandbox, as a sender would make it."""
    body = mail()
    body["personalizations"] = [
        personalization(
            rig.campaign.messages[number].recipient,
            custom_args={"attempt_id": rig.attempt(number)},
        )
        for number in numbers
    ]
    key = at.settings.sendgrid_api_key
    answer = await asked(rig.session, at.url, "POST", "/v3/mail/send", body, key)
    assert answer.status == 202


async def ledger_of(rig: EmailRig, at: Sandbox) -> list[dict[str, Any]]:
    key = at.settings.sendgrid_api_key

    async def settled() -> bool:
        answer = await asked(rig.session, at.url, "GET", "/sandbox/sendgrid/ledger", None, key)
        return bool(answer.body["emails_with_pending_events"] == 0)

    await eventually(settled, 240, "all events posted")
    path = "/sandbox/sendgrid/ledger/emails?limit=10000"
    answer = await asked(rig.session, at.url, "GET", path, None, key)
    return list(answer.body["emails"])


def expected_status(row: dict[str, Any]) -> str:
    if row["final_event"] == "dropped":
        return "OPTED_OUT" if row["drop_reason"] == "Unsubscribed Address" else "FAILED"
    return STATUS_OF[row["final_event"]]


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param({}, id="as they should be"),
        pytest.param(
            {
                "event_duplicated_share": 0.3,
                "event_reordered_share": 0.5,
                "event_fields_missing_share": 0.5,
                "event_batch_max": 50,
            },
            id="twice, reordered, with fields missing",
        ),
    ],
)
async def test_what_becomes_of_messages_is_what_the_ledger_says(
    nats_url: str, tmp_path: Path, faults: dict[str, Any]
) -> None:
    campaign = EmailCampaign()
    campaign.add_sent(600)
    ports = free_port(), free_port()
    url = f"http://127.0.0.1:{ports[0]}"
    with structlog.testing.capture_logs() as lines:
        async with email_rig(
            nats_url, tmp_path, campaign=campaign, sendgrid_url=url, port=ports[1]
        ) as rig:
            async with sandbox(ports[0], rig.url + rig.events_path, **SPREAD, **faults) as at:
                campaign.sendgrid.api_key = at.settings.sendgrid_api_key
                rig.accounts.forget(campaign.organisation_id)
                for first in (1, 301):
                    await send(rig, at, range(first, first + 300))
                rows = await ledger_of(rig, at)
            await rig.none_stored()
            expected = {
                number: expected_status(row)
                for number, row in zip(range(1, 601), rows, strict=True)
            }
            found = {number: message.status for number, message in campaign.messages.items()}
            assert found == expected
            assert len(set(expected.values())) == 5, "the shares bring out every status"
            for number, row in enumerate(rows, 1):
                last = campaign.messages[number].last
                detail = row["bounce_classification"] or row["drop_reason"]
                if expected[number] == "FAILED" and detail in REASON_OF and last is not None:
                    assert FailureReason(last.failure_reason) is REASON_OF[detail]
            told = {opt_out.number for opt_out in campaign.opt_outs}
            assert told == {number for number, row in enumerate(rows, 1) if row["complaint"]}
    assert "example.com" not in str([line for line in lines if line["event"] != "listening"])
    assert not [line for line in lines if line["log_level"] in ("error", "critical")]


async def test_the_key_is_asked_for_once_and_again_when_it_was_changed(
    nats_url: str, tmp_path: Path
) -> None:
    campaign = EmailCampaign()
    campaign.add_sent(4)
    ports = free_port(), free_port()
    url = f"http://127.0.0.1:{ports[0]}"
    async with email_rig(
        nats_url,
        tmp_path,
        campaign=campaign,
        sendgrid_url=url,
        port=ports[1],
        ask_again_seconds=0.5,
    ) as rig:
        event_url = rig.url + rig.events_path
        async with sandbox(ports[0], event_url) as at:
            campaign.sendgrid.api_key = at.settings.sendgrid_api_key
            await send(rig, at, range(1, 3))
            await rig.becomes(DELIVERED=2, SENDING=2)
        # a new sandbox has a new key, and nobody tells us
        async with sandbox(ports[0], event_url, event_retry_seconds=20.0) as at:
            await send(rig, at, range(3, 5))
            await rig.becomes(DELIVERED=4)
        body = b"[]"
        assert await rig.post(rig.events_path, body, rig.signed(body)) == 403


async def test_without_a_key_events_are_put_off_and_sendgrid_is_not_asked_each_time(
    nats_url: str, tmp_path: Path
) -> None:
    """Nobody listens where SendGrid should be; the sandbox starts later, and its events come again."""
    campaign = EmailCampaign()
    ports = free_port(), free_port()
    url = f"http://127.0.0.1:{ports[0]}"
    async with email_rig(
        nats_url, tmp_path, campaign=campaign, sendgrid_url=url, port=ports[1]
    ) as rig:
        body = b"[]"
        with structlog.testing.capture_logs() as lines:
            for _ in range(5):
                assert await rig.post(rig.events_path, body, rig.signed(body)) == 503
        assert [line["event"] for line in lines] == ["webhook_key_not_told"]


@pytest.mark.parametrize("key", ["wrong", ""])
async def test_a_key_that_may_not_ask_is_said_in_the_log_and_not_shown(
    nats_url: str, tmp_path: Path, key: str
) -> None:
    campaign = EmailCampaign()
    campaign.sendgrid.api_key = key
    ports = free_port(), free_port()
    async with (
        email_rig(
            nats_url,
            tmp_path,
            campaign=campaign,
            sendgrid_url=f"http://127.0.0.1:{ports[0]}",
            port=ports[1],
        ) as rig,
        sandbox(ports[0], rig.url + rig.events_path),
    ):
        body = b"[]"
        with structlog.testing.capture_logs() as lines:
            assert await rig.post(rig.events_path, body, rig.signed(body)) == 503
        (line,) = lines
        assert (line["event"], line["status"]) == ("webhook_key_not_told", 401)

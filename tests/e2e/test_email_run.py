"""Email campaigns through all processes, the public client on one side, the provider's double on
the other: the end of every message is what its fate says, and nobody gets an email twice.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import aiohttp
import pytest

from outreach.local.stack import LocalStack
from outreach.v1.campaign_pb2 import (
    CAMPAIGN_STATUS_ACTIVE_RETRIES,
    CAMPAIGN_STATUS_COMPLETE,
    CAMPAIGN_STATUS_IN_PROGRESS,
)
from outreach.vocabulary import MessageStatus
from services.sandbox.knobs import Knobs
from services.sandbox.sendgrid.fates import Outcome
from services.sandbox.sendgrid.knobs import EmailKnobs
from tests.campaign_history import END_SECONDS_MAX, History, counts_of, recipients
from tests.email_history import EmailHistory, addresses
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

EVERYTHING = EmailKnobs(
    latency_ms=20,
    http_429_share=0.3,
    http_429_reset_seconds=1,
    http_500_after_accept_share=0.2,
    drop_after_accept_share=0.2,
    rejected_share=0.002,
    deferred_then_delivered_share=0.03,
    deferral_seconds=25,
    deferred_for_ever_share=0.003,
    deferral_expires_seconds=27,
    bounced_classes={"Invalid Address": 0.01, "Mailbox Unavailable": 0.01},
    blocked_classes={"Reputation": 0.005, "Content": 0.005},
    dropped_reasons={"Unsubscribed Address": 0.01, "Bounced Address": 0.005, "Spam Content": 0.002},
    bounced_after_delivery_share=0.01,
    unsubscribe_share=0.01,
    group_unsubscribe_share=0.005,
    spamreport_share=0.005,
    open_share=0.2,
    click_share=0.05,
    event_delay_ms_min=50,
    event_delay_ms_max=900,
    event_duplicated_share=0.05,
    event_reordered_share=0.05,
    event_fields_missing_share=0.05,
)
QUICK = EmailKnobs(event_delay_ms_min=20, event_delay_ms_max=200)
SMS = Knobs(latency_ms=5, failed_codes={30003: 0.03}, callback_delay_ms_max=500)


async def test_five_thousand_emails_and_two_thousand_sms_at_once(stack: LocalStack) -> None:
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        sms = History(client, sandbox, SMS, recipients(211, 2_000))
        await sms.prepare()
        email = EmailHistory(client, sandbox, EVERYTHING, addresses("both", 5_000))
        await email.prepare()
        await email.run()
        await sms.run()

        # ACTIVE_RETRIES frees the channel: another email campaign goes its whole way meanwhile.
        other = EmailHistory(
            client, sandbox, EVERYTHING, addresses("meanwhile", 50), shares_ledger=True
        )
        await other.prepare()
        await email.active_retries()
        await other.run()
        while_other_runs = await client.get_campaign(email.campaign_id)
        assert while_other_runs.status == CAMPAIGN_STATUS_ACTIVE_RETRIES
        email.shares_ledger = True

        sms_campaign, campaign, _ = await asyncio.gather(sms.end(), email.end(), other.end())

        # The parts of the mixture were there, or the above proves little.
        outcomes = Counter(fate.outcome for fate in email.fates().values())
        assert all(
            outcomes[outcome] for outcome in Outcome if outcome is not Outcome.NO_FINAL_EVENT
        )
        by_status = Counter(must.end.status.name.lower() for must in email.expected().values())
        assert counts_of(campaign.counts) == by_status
        assert by_status["opted_out"] > 0
        assert sms_campaign.counts.failed > 0
        ledger = await sandbox.email_ledger()
        assert ledger["requests_refused"]["http_400"] > 0
        assert ledger["attempts_accepted_more_than_once"] == 0
        assert ledger["recipients_accepted_more_than_once"] == 0

        # Whoever unsubscribed or complained is left out of the next one.
        complained = frozenset(to for to, fate in email.fates().items() if fate.complaint)
        opted_out = frozenset(
            to
            for to, must in email.expected().items()
            if must.end.status is MessageStatus.OPTED_OUT
        )
        assert complained
        again = EmailHistory(
            client, sandbox, QUICK, addresses("both", 5_000), complained | opted_out
        )
        await again.prepare()

        async def suppressed() -> bool:
            estimate = await client.estimate_campaign(again.campaign_id)
            return estimate.suppressed == len(complained | opted_out)

        await eventually(suppressed, END_SECONDS_MAX, "all opt-outs are taken in")
        await again.run()
        assert (await again.end()).status == CAMPAIGN_STATUS_COMPLETE


async def test_an_email_campaign_holds_its_own_channel_only(stack: LocalStack) -> None:
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        slow = Knobs(latency_ms=4_000, callback_delay_ms_max=200)
        sms = History(client, sandbox, slow, recipients(212, 200))
        await sms.prepare()
        email = EmailHistory(client, sandbox, QUICK, addresses("beside", 100))
        await email.prepare()
        await sms.run()
        await email.run()
        assert (await client.get_campaign(sms.campaign_id)).status == CAMPAIGN_STATUS_IN_PROGRESS
        await email.end()
        await sms.end()


async def test_what_arrives_has_everything_an_email_needs(stack: LocalStack) -> None:
    """One recipient's email as it was sent, and the way out of the list that it offers."""
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        history = EmailHistory(client, sandbox, QUICK, addresses("arrives", 3))
        await history.prepare()
        pdf = b"%PDF-1.7\n" + bytes(range(256)) * 40
        await client.upload_attachment(history.campaign_id, pdf, file_name="terms.pdf")
        await history.run()
        await history.end()
        rows = await history.rows()
        email = await sandbox.email(rows[1]["sg_message_id"])
        assert email["subject"] == "News for Person 2"
        assert "News from <b>City 2</b>" in email["html"].replace(' style=""', "")
        assert "{{" not in email["html"] + email["text"] + email["subject"]
        assert [part["filename"] for part in email["attachments"]] == ["terms.pdf"]
        assert email["attachments"][0]["size_bytes"] == len(pdf)
        headers = {name.lower(): value for name, value in dict(email["headers"]).items()}
        assert headers["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
        url = re.fullmatch(r"<(http[^>]+)>", headers["list-unsubscribe"])
        assert url is not None
        assert url[1] in email["html"]

        next_time = EmailHistory(
            client, sandbox, QUICK, addresses("arrives", 3), frozenset(addresses("arrives", 3)[1:2])
        )
        await next_time.prepare()
        async with aiohttp.ClientSession() as mail_program:
            async with mail_program.get(url[1]) as page:
                assert page.status == 200
                assert "<form" in await page.text()
            estimate = await client.estimate_campaign(next_time.campaign_id)
            assert estimate.suppressed == 0
            one_click = {"List-Unsubscribe": "One-Click"}
            async with mail_program.post(url[1], data=one_click, allow_redirects=False) as answer:
                assert answer.status == 200
                assert "Set-Cookie" not in answer.headers

        async def suppressed() -> bool:
            estimate = await client.estimate_campaign(next_time.campaign_id)
            return estimate.suppressed == 1

        await eventually(suppressed, END_SECONDS_MAX, "the unsubscribe is taken in")
        await next_time.run()
        await next_time.end()

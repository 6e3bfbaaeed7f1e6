"""The demo: an SMS and an email campaign side by side, from a CSV file to the last receipt,
through all the real parts.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from outreach.client import OutreachClient
from outreach.local.accounting import Accounts, hold_accounts, hold_email_accounts
from outreach.local.example_contacts import BODY, example_contacts
from outreach.local.example_email import example_email
from outreach.local.sandbox_client import SandboxClient
from outreach.v1 import campaign_pb2, contact_pb2
from outreach.v1.channel_pb2 import CHANNEL_EMAIL
from outreach.vocabulary import Channel

STOP_REPLIES_EVERY = 90
_SUPPRESSED_SECONDS_MAX = 30.0
_POLL_SECONDS = 0.1
# The sandbox repeats a receipt that was not taken for 15 s.
_LATE_RECEIPTS_SECONDS_MAX = 20.0
_LATE_RECEIPTS_POLL_SECONDS = 0.5

SEGMENTS_PER_SECOND_MAX = 250
EMAILS_PER_SECOND_MAX = 250

# What happens to which share of the recipients. Failures, opt-outs and doubt, as in real life.
KNOBS: dict[str, Any] = {
    "latency_ms": 20,
    "latency_jitter_ms": 40,
    "callback_delay_ms_min": 300,
    "callback_delay_ms_max": 2_500,
    "http_429_share": 0.01,
    "drop_after_accept_share": 0.005,
    "rejected_codes": {21610: 0.006, 21408: 0.004},
    "failed_codes": {30003: 0.02, 30005: 0.01, 30006: 0.005, 30007: 0.005},
    "no_receipt_share": 0.03,
    "callback_duplicated_share": 0.02,
    "callback_reordered_share": 0.02,
    "email": {
        "latency_ms": 80,
        "rejected_share": 0.003,
        "drop_after_accept_share": 0.02,
        "deferred_then_delivered_share": 0.04,
        "deferral_seconds": 4,
        "bounced_classes": {"Invalid Address": 0.012, "Mailbox Unavailable": 0.008},
        "blocked_classes": {"Reputation": 0.005},
        "dropped_reasons": {"Unsubscribed Address": 0.006, "Bounced Address": 0.004},
        "bounced_after_delivery_share": 0.004,
        "unsubscribe_share": 0.005,
        "spamreport_share": 0.002,
        "open_share": 0.3,
        "event_duplicated_share": 0.02,
        "event_reordered_share": 0.02,
        "event_fields_missing_share": 0.02,
    },
}


@dataclass(frozen=True)
class ShortTimer:
    """A timer that the demo shortens so that nobody waits: said to the viewer."""

    setting: str
    what: str
    product_seconds: int
    demo_seconds: int


SHORT_TIMERS = (
    ShortTimer("OUTREACH_ASSUMED_DELIVERED_AFTER_SECONDS", "assumed delivered after", 600, 8),
    ShortTimer("OUTREACH_LOOK_UP_AFTER_SECONDS", "unknown outcomes looked up after", 20, 3),
    ShortTimer("OUTREACH_UNCONFIRMED_AFTER_SECONDS", "unconfirmed after", 900, 45),
)


def short_timer_settings() -> dict[str, str]:
    """The shortened timers as the services' environment."""
    return {timer.setting: str(timer.demo_seconds) for timer in SHORT_TIMERS}


class DemoCampaign(ABC):
    """One of the demo's campaigns, on a stack whose sandbox has seen no other of its channel; the
    steps in order, each with its result.

    Args:
        contacts: how many valid contacts the file has.
        seed: of the file.
    """

    channel: Channel
    file_name: str

    def __init__(self, contacts: int, seed: int) -> None:
        self.example = example_contacts(contacts, seed, self.channel)
        #: Recipients that opted out before the campaign.
        self.stopped: tuple[str, ...] = ()
        self.campaign = campaign_pb2.Campaign()

    @abstractmethod
    async def create(self, client: OutreachClient) -> campaign_pb2.Campaign:
        """Create the campaign, its template not provided with variables yet."""

    @abstractmethod
    async def _accounts(self, client: OutreachClient, sandbox: SandboxClient) -> Accounts:
        """The campaign as it is now, held against the ledger."""

    async def upload(
        self, client: OutreachClient, on_progress: Callable[[int, int | None], None]
    ) -> contact_pb2.ContactUpload:
        """Upload the file, with consent."""
        return await client.upload_contacts(
            self.campaign.id,
            self.example.csv_bytes,
            consent_confirmed=True,
            file_name=self.file_name,
            on_progress=on_progress,
        )

    def columns(self, upload: contact_pb2.ContactUpload) -> list[campaign_pb2.ContactColumn]:
        """The mapping: what the service suggests, but for the notes."""
        columns = [
            campaign_pb2.ContactColumn(
                name=column.name,
                role=column.suggested_role,
                variable_name=column.suggested_variable_name,
            )
            for column in upload.columns
        ]
        skipped = campaign_pb2.ContactColumn(
            name="notes", role=campaign_pb2.COLUMN_ROLE_DO_NOT_IMPORT
        )
        return [skipped if column.name == skipped.name else column for column in columns]

    async def import_contacts(
        self,
        client: OutreachClient,
        upload: contact_pb2.ContactUpload,
        on_progress: Callable[[contact_pb2.ImportProgress], None],
    ) -> contact_pb2.ImportResult:
        """Import it."""
        result = await client.import_contacts(
            self.campaign.id,
            upload.id,
            mapping=contact_pb2.ContactMapping(columns=self.columns(upload)),
            on_progress=on_progress,
        )
        self.campaign = result.campaign
        return result

    async def estimate(self, client: OutreachClient) -> campaign_pb2.EstimateCampaignResponse:
        """The estimate, once all opt-outs have been taken in."""
        deadline = time.monotonic() + _SUPPRESSED_SECONDS_MAX
        while True:
            estimate = await client.estimate_campaign(self.campaign.id)
            if estimate.suppressed == len(self.stopped) or time.monotonic() > deadline:
                return estimate
            await asyncio.sleep(_POLL_SECONDS)

    async def run(self, client: OutreachClient) -> campaign_pb2.Campaign:
        """Start it; whoever starts the demo accepts the disclaimer for made-up people."""
        disclaimer = await client.get_disclaimer()
        self.campaign = await client.run_campaign(
            self.campaign.id, accepted_disclaimer_version=disclaimer.version
        )
        return self.campaign

    async def account(self, client: OutreachClient, sandbox: SandboxClient) -> Accounts:
        """Hold the final campaign against the ledger.

        A receipt may still be on its way, when a process was down as it came first: the final
        status then changes once more, so that a difference is looked at again for a while.
        """
        deadline = time.monotonic() + _LATE_RECEIPTS_SECONDS_MAX
        while True:
            accounts = await self._accounts(client, sandbox)
            if accounts.exact or time.monotonic() > deadline:
                self.campaign = await client.get_campaign(self.campaign.id)
                return accounts
            await asyncio.sleep(_LATE_RECEIPTS_POLL_SECONDS)

    def problems(self) -> list[str]:
        """What the import should have found and did not."""
        found = self.campaign.contacts
        expected = {
            "imported": (found.imported, len(self.example.recipients)),
            "invalid": (found.invalid, self.example.invalid),
            "duplicates": (found.duplicates, self.example.duplicates),
        }
        return [
            f"{name}: {number:,}, but the file has {made:,}"
            for name, (number, made) in expected.items()
            if number != made
        ]

    @property
    def run_seconds(self) -> float:
        """From the run's start to its last final message."""
        began, ended = self.campaign.start_time, self.campaign.end_time
        return (ended.ToDatetime() - began.ToDatetime()) / timedelta(seconds=1)


class SmsDemo(DemoCampaign):
    """Appointment reminders by SMS; some recipients have replied STOP before."""

    channel = Channel.SMS
    file_name = "appointments.csv"

    def __init__(self, contacts: int, seed: int) -> None:
        super().__init__(contacts, seed)
        self.stopped = self.example.recipients[STOP_REPLIES_EVERY // 2 :: STOP_REPLIES_EVERY]

    async def send_stop_replies(self, sandbox: SandboxClient) -> None:
        """STOP replies reach us as webhooks, before there is a campaign."""
        for recipient in self.stopped:
            answer = await sandbox.reply(recipient, "Stop")
            if answer["receiver_status"] not in range(200, 300):
                raise RuntimeError(f"the STOP webhook was answered {answer['receiver_status']}")

    async def create(self, client: OutreachClient) -> campaign_pb2.Campaign:
        self.campaign = await client.create_campaign(
            name="Appointment reminders",
            description="Made by `outreach demo`.",
            sms=campaign_pb2.SmsContent(body=BODY),
        )
        return self.campaign

    async def _accounts(self, client: OutreachClient, sandbox: SandboxClient) -> Accounts:
        messages = [message async for message in client.all_messages(self.campaign.id)]
        rows = [row async for row in sandbox.ledger_messages()]
        totals = await sandbox.ledger()
        return hold_accounts(messages, rows, totals, suppressed=len(self.stopped))


class EmailDemo(DemoCampaign):
    """The same people's newsletter, made of blocks."""

    channel = Channel.EMAIL
    file_name = "newsletter.csv"

    async def create(self, client: OutreachClient) -> campaign_pb2.Campaign:
        self.campaign = await client.create_campaign(
            name="Spring newsletter",
            description="Made by `outreach demo`.",
            channel=CHANNEL_EMAIL,
            email=example_email(),
        )
        return self.campaign

    async def _accounts(self, client: OutreachClient, sandbox: SandboxClient) -> Accounts:
        messages = [message async for message in client.all_messages(self.campaign.id)]
        rows = [row async for row in sandbox.ledger_emails()]
        accepted = {row["email"].lower() for row in rows}
        refused = set()
        for message in messages:
            recipient = message.recipient.lower()
            if recipient not in accepted and (await sandbox.email_fate(recipient))["rejection"]:
                refused.add(recipient)
        totals = await sandbox.email_ledger()
        return hold_email_accounts(messages, rows, totals, refused=frozenset(refused))

"""What comes in to an email sender, with its peers: real gRPC, real NATS, real HTTP."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import nats
import orjson
from nats.js import JetStreamContext

from outreach.internal.v1 import delivery_pb2
from outreach.jetstream.connection import nats_connection
from outreach.jetstream.consumer import PullConsumer
from outreach.jetstream.publisher import Publisher
from outreach.jetstream.topology import INBOX_STREAM, ensure_topology, inbox_subject
from outreach.local.ports import free_port
from outreach.sending.attempt_token import TokenKey
from outreach.sending.contents import Accounts
from outreach.sending.endpoint import listening
from outreach.sending.inbox import Forwarder, Inbox
from outreach.sending.journal import Journal
from outreach.sending.opt_outs import committing
from outreach.sending.reporter import Reporter
from outreach.sending.stream import DeliveryStream
from outreach.sending.transport import HttpTransport
from outreach.vocabulary import OUTCOME_RANK, Channel, Outcome
from services.sandbox.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookKey
from services.sender_email.account_checks import AccountChecks
from services.sender_email.events import interpret
from services.sender_email.sendgrid_api import SendGridApi
from services.sender_email.suppressions import SuppressionPusher, SuppressionQueue
from services.sender_email.webhook_keys import WebhookKeys
from services.sender_email.webhooks import Webhooks
from tests.campaign_double import TOKEN, CampaignDouble, Message
from tests.sender_rig import TOKEN_KEY, commits_waited_for
from tests.waiting import eventually

METADATA = (("authorization", f"Bearer {TOKEN}"),)
NOBODY = "http://127.0.0.1:9"
HASH = bytes(range(16))

_STATUS_OF = {
    Outcome.ACCEPTED: "SENT",
    Outcome.DEFERRED: "RETRYING",
    Outcome.OPTED_OUT: "OPTED_OUT",
    Outcome.DELIVERED: "DELIVERED",
    Outcome.FAILED: "FAILED",
}


class EmailCampaign(CampaignDouble):
    """One organisation, one email campaign whose messages have all been handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.sendgrid = delivery_pb2.SendGridAccount(api_key="key")
        self.account_fault: grpc.StatusCode | None = None
        self.recipient_fault: grpc.StatusCode | None = None
        self.recipients_asked = 0

    def add_sent(self, count: int) -> None:
        first = len(self.messages) + 1
        for number in range(first, first + count):
            self.messages[number] = Message(
                f"somebody-{number}@example.com", [], status="SENDING", attempt=1
            )

    def _report(self, report: delivery_pb2.Report) -> None:
        message = self.messages[report.number]
        outcome = Outcome(report.outcome)
        message.outcomes.append((report.attempt, outcome))
        known = Outcome(message.last.outcome) if message.last else None
        if (
            known is None
            or OUTCOME_RANK[Channel.EMAIL][outcome] > OUTCOME_RANK[Channel.EMAIL][known]
        ):
            message.status = _STATUS_OF[outcome]
            message.last = report

    def account(self) -> delivery_pb2.ProviderAccount:
        return delivery_pb2.ProviderAccount(
            organisation_id=str(self.organisation_id), sendgrid=self.sendgrid
        )

    async def GetProviderAccount(  # noqa: N802 - the RPC's name
        self, request: delivery_pb2.GetProviderAccountRequest, context: Any
    ) -> delivery_pb2.ProviderAccount:
        if self.account_fault is not None:
            await context.abort(self.account_fault, "as the test wants it")
        return await super().GetProviderAccount(request, context)

    async def GetRecipient(  # noqa: N802 - the RPC's name
        self, request: delivery_pb2.GetRecipientRequest, context: Any
    ) -> delivery_pb2.GetRecipientResponse:
        self.recipients_asked += 1
        if self.recipient_fault is not None:
            await context.abort(self.recipient_fault, "as the test wants it")
        return await super().GetRecipient(request, context)


@dataclass
class EmailRig:
    """`token_key` signs attempts and links; `webhook_key` is what `post` signs with."""

    campaign: EmailCampaign
    nats_url: str
    url: str
    token_key: TokenKey
    session: aiohttp.ClientSession
    accounts: Accounts
    inbox: Inbox
    webhook_key: WebhookKey = field(default_factory=lambda: WebhookKey(None))

    @property
    def events_path(self) -> str:
        return f"/sendgrid/events/{self.token_key.sign_organisation(self.campaign.organisation_id)}"

    def attempt(self, number: int = 1, attempt: int = 1) -> str:
        campaign = self.campaign
        return self.token_key.sign_attempt(
            campaign.organisation_id.bytes, campaign.campaign_id.bytes, number, attempt
        )

    def link_path(self, number: int = 1) -> str:
        campaign = self.campaign
        token = self.token_key.sign_unsubscribe(
            campaign.organisation_id.bytes, campaign.campaign_id.bytes, number, HASH
        )
        return f"/unsubscribe/{token}"

    def event(self, kind: str, number: int = 1, **more: object) -> dict[str, object]:
        return {
            "email": f"somebody-{number}@example.com",
            "timestamp": int(time.time()) - 1,
            "event": kind,
            "sg_event_id": f"{kind}-{number}",
            "sg_message_id": f"14c5d75ce93.dfd.64b469.{number}",
            "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
            "attempt_id": self.attempt(number),
            **more,
        }

    def signed(self, body: bytes, at: float | None = None) -> dict[str, str]:
        timestamp = str(int(time.time() if at is None else at))
        signature = self.webhook_key.sign(timestamp, body)
        return {
            SIGNATURE_HEADER: signature,
            TIMESTAMP_HEADER: timestamp,
            "Content-Type": "application/json",
            "User-Agent": "SendGrid Event API",
        }

    async def post_events(self, *events: object) -> int:
        body = b"[" + b",\r\n".join(orjson.dumps(event) for event in events) + b"]\r\n"
        return await self.post(self.events_path, body, self.signed(body))

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        data = io.BytesIO(body)  # large ones as bytes are warned of
        async with self.session.post(self.url + path, data=data, headers=headers) as response:
            await response.read()
            return response.status

    async def becomes(self, **statuses: int) -> None:
        """Wait for the messages' statuses."""
        await eventually(lambda: self.campaign.statuses() == statuses, 240, str(statuses))

    async def stored(self) -> int:
        """Messages in the inbox stream that are not acknowledged."""
        connection = await nats.connect(self.nats_url)
        try:
            info = await connection.jetstream().stream_info(INBOX_STREAM)
            return int(info.state.messages)
        finally:
            await connection.close()

    async def none_stored(self) -> None:
        """Wait until all is acknowledged."""

        async def none() -> bool:
            return await self.stored() == 0

        await eventually(none, 240, "all is acknowledged")


async def _ensure(jetstream: JetStreamContext) -> None:
    await ensure_topology(jetstream, (Channel.EMAIL,))


@asynccontextmanager
async def email_rig(
    nats_url: str,
    journal_dir: Path,
    *,
    campaign: EmailCampaign | None = None,
    sendgrid_url: str = NOBODY,
    port: int = 0,
    forwards: bool = True,
    pushes: bool = False,
    checks: bool = False,
    ask_again_seconds: float = 60.0,
    retry_seconds_min: float = 0.2,
    give_up_after_seconds: float = 60.0,
    check_interval_seconds: float = 300.0,
    past_seconds_max: float = 25 * 3600.0,
) -> AsyncIterator[EmailRig]:
    """Only what comes in, and what follows from it; the parts that are not asked for do not run."""
    campaign = campaign or EmailCampaign()
    port = port or free_port()
    async with AsyncExitStack() as resources:
        await resources.enter_async_context(commits_waited_for())
        journal = Journal(journal_dir)
        resources.callback(journal.close)
        address = await resources.enter_async_context(campaign.serving())
        channel = await resources.enter_async_context(grpc.aio.insecure_channel(address))
        http = await resources.enter_async_context(
            HttpTransport(connections_max=8, request_seconds_max=120.0)
        )
        session = await resources.enter_async_context(aiohttp.ClientSession())
        connection = await resources.enter_async_context(nats_connection(nats_url, name="rig"))
        await connection.connected()
        await _ensure(connection.jetstream)
        publisher = Publisher(connection, ack_seconds_max=60.0)
        token_key = TokenKey(TOKEN_KEY)
        accounts = Accounts(channel, METADATA, Channel.EMAIL)
        api = SendGridApi(http, sendgrid_url)
        inbox = Inbox(publisher, inbox_subject(Channel.EMAIL))
        reporter = Reporter(journal, Channel.EMAIL)
        stream = DeliveryStream(channel, METADATA, Channel.EMAIL, journal, reporter)
        consumer = PullConsumer(
            connection, stream=INBOX_STREAM, durable="email-inbox", ensure=_ensure
        )
        webhooks = Webhooks(
            commit=committing(stream, reporter),
            inbox=inbox,
            suppressions=SuppressionQueue(publisher),
            keys=WebhookKeys(accounts, api, ask_again_seconds=ask_again_seconds),
            token_key=token_key,
            faults=list,
            past_seconds_max=past_seconds_max,
        )
        parts = [inbox.run]
        if forwards:
            parts += [
                stream.run,
                reporter.run,
                Forwarder(consumer, stream, reporter, interpret).run,
            ]
        if pushes:
            parts.append(
                SuppressionPusher(
                    nats=connection,
                    channel=channel,
                    metadata=METADATA,
                    accounts=accounts,
                    api=api,
                    retry_seconds_min=retry_seconds_min,
                    give_up_after_seconds=give_up_after_seconds,
                ).run
            )
        if checks:
            parts.append(
                AccountChecks(
                    channel=channel,
                    metadata=METADATA,
                    accounts=accounts,
                    api=api,
                    interval_seconds=check_interval_seconds,
                    retry_seconds_min=retry_seconds_min,
                ).run
            )
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(part()) for part in parts]
            try:
                async with listening(webhooks.handle, "127.0.0.1", port):
                    rig = EmailRig(
                        campaign,
                        nats_url,
                        f"http://127.0.0.1:{port}",
                        token_key,
                        session,
                        accounts,
                        inbox,
                    )
                    if forwards:
                        await stream.connected()
                    if not campaign.sendgrid.webhook_public_key and sendgrid_url == NOBODY:
                        campaign.sendgrid.webhook_public_key = rig.webhook_key.public_key
                    yield rig
            finally:
                for task in running:
                    task.cancel()

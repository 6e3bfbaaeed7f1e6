"""A campaign and its owner: made, run, stopped and retried, whatever happens to the services."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from chaos.clients.calls import acted, answered
from chaos.history import ActionKind, History
from chaos.plan import CampaignPlan
from chaos.wire import campaign_seen, is_final, wire_channel, wire_status
from outreach.client import CallError, OutreachClient
from outreach.client.connection import new_request_id
from outreach.local.example_email import SENDER_ADDRESS
from outreach.v1.campaign_pb2 import Campaign, EmailAddress, EmailContent, SmsContent
from outreach.vocabulary import Channel, MessageStatus

_LOOK_SECONDS = 0.15
_LINES_OF_AREA = 9_000
_SMS = SmsContent(body="Hi {{name}}, see you soon. STOP to opt out.")
_HTML = (
    "<h1>Hello {{name|there}}</h1><p>We have news for you.</p>"
    '<p><a href="{{unsubscribe_url}}">Unsubscribe</a></p>'
)


def recipients(channel: Channel, first: int, count: int) -> tuple[str, ...]:
    """Made-up recipients; ranges that do not meet have none in common."""
    numbers = range(first, first + count)
    if channel is Channel.EMAIL:
        return tuple(f"chaos.{number}@example.org" for number in numbers)
    return tuple(
        f"+1{301 + number // _LINES_OF_AREA}555{1_000 + number % _LINES_OF_AREA:04}"
        for number in numbers
    )


class CampaignOwner:
    """Makes one campaign and sees it to its end.

    Args:
        client: whose calls go through the run's faults.
        history: gets what is done and answered.
        channel: of the campaign.
        to: its recipients, in the order of the file.
    """

    def __init__(
        self, client: OutreachClient, history: History, channel: Channel, to: Sequence[str]
    ) -> None:
        self.channel = channel
        self.recipients = to
        self.campaign_id = ""
        self.has_run = False
        self._client = client
        self._history = history

    async def prepare(self) -> None:
        """Everything up to READY."""
        sms, email = (_SMS, None) if self.channel is Channel.SMS else (None, _email())
        request_id = new_request_id()
        campaign = await answered(
            lambda: self._client.create_campaign(
                name=f"Chaos {len(self.recipients)}",
                channel=wire_channel(self.channel),
                sms=sms,
                email=email,
                request_id=request_id,
            )
        )
        self.campaign_id = campaign.id
        rows = "".join(f"{to},Person {n}\r\n" for n, to in enumerate(self.recipients, 1))
        upload = await answered(
            lambda: self._client.upload_contacts(
                campaign.id, f"recipient,name\r\n{rows}".encode(), consent_confirmed=True
            )
        )
        await acted(
            self._history,
            ActionKind.IMPORT,
            campaign.id,
            lambda import_id: self._client.import_contacts(
                campaign.id, upload.id, request_id=import_id
            ),
        )

    async def run(self) -> bool:
        """Start it; whether that was not refused."""
        disclaimer = await answered(self._client.get_disclaimer)
        campaign = await acted(
            self._history,
            ActionKind.RUN,
            self.campaign_id,
            lambda request_id: self._client.run_campaign(
                self.campaign_id,
                accepted_disclaimer_version=disclaimer.version,
                request_id=request_id,
            ),
            lambda answer: answer.run,
        )
        if campaign is None:
            return False
        self.has_run = True
        self._history.seen.append(campaign_seen(campaign, "run"))
        return True

    async def follow(self, plan: CampaignPlan, before_retry: Callable[[], Awaitable[None]]) -> None:
        """After the run: stop and retries as planned, until all is final."""
        if plan.stop_share is not None:
            await self._until_sent(plan.stop_share)
            await self.stop()
            await self.until_final()
            await before_retry()
            await self.retry(MessageStatus.CANCELLED)
        await self.until_final()
        if plan.retries_failed:
            await before_retry()
            await self.retry(MessageStatus.FAILED)
            await self.until_final()

    async def stop(self) -> None:
        """Stop it, unless it is over by now."""
        campaign = await acted(
            self._history,
            ActionKind.STOP,
            self.campaign_id,
            lambda request_id: self._client.stop_campaign(self.campaign_id, request_id=request_id),
        )
        if campaign is not None:
            self._history.seen.append(campaign_seen(campaign, "stop"))

    async def retry(self, status: MessageStatus) -> None:
        """Retry what is in this status, if anything is."""
        disclaimer = await answered(self._client.get_disclaimer)
        response = await acted(
            self._history,
            ActionKind.RETRY,
            self.campaign_id,
            lambda request_id: self._client.retry_messages(
                self.campaign_id,
                accepted_disclaimer_version=disclaimer.version,
                statuses=(wire_status(status),),
                request_id=request_id,
            ),
            lambda answer: answer.campaign.run,
        )
        if response is not None:
            self._history.seen.append(campaign_seen(response.campaign, "retry"))

    async def delete(self) -> None:
        """Delete it."""
        await acted(
            self._history,
            ActionKind.DELETE,
            self.campaign_id,
            lambda request_id: self._client.delete_campaign(
                self.campaign_id, request_id=request_id
            ),
        )

    async def until_final(self) -> None:
        """Wait until every message is final."""
        while True:
            campaign = await self._look()
            if campaign is not None and is_final(campaign):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _until_sent(self, share: float) -> None:
        """Wait until so much of it is not waiting any more, or it is over."""
        while True:
            campaign = await self._look()
            if campaign is not None:
                left = campaign.counts.waiting + campaign.counts.queued
                if is_final(campaign) or left <= campaign.counts.total * (1 - share):
                    return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> Campaign | None:
        """The campaign as it is now; None while nobody answers."""
        try:
            return await self._client.get_campaign(self.campaign_id)
        except CallError:
            return None


def _email() -> EmailContent:
    content = EmailContent(subject="News for {{name|you}}", html=_HTML)
    getattr(content, "from").CopyFrom(EmailAddress(address=SENDER_ADDRESS, display_name="News"))
    return content

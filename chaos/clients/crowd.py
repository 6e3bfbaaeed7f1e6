"""Everybody else in a run: recipients who opt out, forgers, whoever wants the channel too or deletes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import aiohttp

from chaos.clients.campaigns import CampaignOwner
from chaos.clients.opt_outs import OptOuts
from chaos.clients.webhooks import Forger, Target
from chaos.history import Acceptance, History
from chaos.plan import ClientsPlan
from chaos.record.database import recipient_hashes
from chaos.stack import ChaosStack
from outreach.client import OutreachClient
from outreach.local.sandbox_client import SandboxClient
from outreach.local.stack_state import StackSecrets
from outreach.vocabulary import Channel
from services.sandbox.sendgrid.signing import WebhookKey
from services.sender_email.request import UNSUBSCRIBE_PATH
from services.sender_sms.form import STATUS_PATH

#: Of an HTTP request of a recipient or a forger; a sender that hangs is left alone after that.
_HTTP_SECONDS_MAX = 5.0
#: They come one after the other, so that some of them meet a fault.
_PAUSE_SECONDS = 0.4
_TRIES_FOR_THE_CHANNEL = 4


@dataclass
class Crowd:
    """What happens beside the two campaigns and the faults.

    Args:
        stack: the stack.
        client: whose calls go through the run's faults.
        history: gets what is done.
        plan: what is to be done.
        chance: which messages it hits.
        owners: of the two campaigns.
        competitors: campaigns that are ready, one a channel; run while the channel is busy.
        small: a finished campaign, to be deleted.
    """

    stack: ChaosStack
    client: OutreachClient
    sandbox: SandboxClient
    history: History
    plan: ClientsPlan
    chance: random.Random
    owners: Sequence[CampaignOwner]
    competitors: Sequence[CampaignOwner]
    small: CampaignOwner | None

    async def act(self) -> None:
        """All of it, at the same time; returns when it is done."""
        timeout = aiohttp.ClientTimeout(total=_HTTP_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as tasks:
            for owner in self.owners:
                tasks.create_task(self._opt_out(http, owner))
                tasks.create_task(self._forge(http, owner))
            for competitor in self.competitors:
                tasks.create_task(self._compete(competitor))
            if self.small is not None:
                tasks.create_task(self.small.delete())

    async def replay(self, accepted: Sequence[Acceptance]) -> None:
        """Post webhooks once more that the provider has made: of messages whose end it has told."""
        timeout = aiohttp.ClientTimeout(total=_HTTP_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            forger = self._forger(http)
            for channel in Channel:
                known = [one for one in accepted if one.channel is channel and one.token_valid]
                for one in self.chance.sample(known, min(self.plan.forged, len(known))):
                    target = self._target(one.campaign_id, one.number, one.attempt, one.recipient)
                    target = target.of_provider(one.provider_message_id)
                    if channel is Channel.SMS:
                        await forger.replay_sms(target, ("queued", "sent"))
                    else:
                        await forger.replay_email(target, "processed")

    async def _opt_out(self, http: aiohttp.ClientSession, owner: CampaignOwner) -> None:
        """Recipients in the second half of the file, whose turn has not come yet."""
        opt_outs = OptOuts(self.client, self.history)
        total = len(owner.recipients)
        numbers = self.chance.sample(range(total // 2, total + 1), 2 * self.plan.opt_outs)
        called, others = numbers[: self.plan.opt_outs], numbers[self.plan.opt_outs :]
        async with asyncio.TaskGroup() as tasks:
            for number in called:
                recipient = owner.recipients[number - 1]
                tasks.create_task(opt_outs.by_call(owner.channel, recipient))
                await asyncio.sleep(_PAUSE_SECONDS)
            links = await self._links(owner, others) if owner.channel is Channel.EMAIL else {}
            for number in others:
                recipient = owner.recipients[number - 1]
                if owner.channel is Channel.SMS:
                    tasks.create_task(opt_outs.by_reply(self.sandbox, recipient))
                else:
                    tasks.create_task(opt_outs.by_link(http, links[number], recipient))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _links(self, owner: CampaignOwner, numbers: Sequence[int]) -> dict[int, str]:
        stack = self.stack.local
        hashes = await recipient_hashes(stack.postgres_dsn, owner.campaign_id, numbers)
        ids = (stack.organisation_id.bytes, UUID(owner.campaign_id).bytes)
        return {
            number: f"{stack.email_urls[0]}{UNSUBSCRIBE_PATH}"
            + stack.token_key.sign_unsubscribe(*ids, number, recipient_hash)
            for number, recipient_hash in hashes.items()
        }

    async def _forge(self, http: aiohttp.ClientSession, owner: CampaignOwner) -> None:
        forger = self._forger(http)
        for number in self.chance.sample(range(1, len(owner.recipients) + 1), self.plan.forged):
            recipient = owner.recipients[number - 1]
            target = self._target(owner.campaign_id, number, 1, recipient)
            if owner.channel is Channel.SMS:
                await forger.forge_sms(target)
            else:
                await forger.forge_email(target)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _compete(self, competitor: CampaignOwner) -> None:
        for _ in range(_TRIES_FOR_THE_CHANNEL):
            if await competitor.run():
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _forger(self, http: aiohttp.ClientSession) -> Forger:
        stack = self.stack.local
        return Forger(
            http,
            self.history,
            status_url=f"{stack.webhook_urls[0]}{STATUS_PATH}",
            event_url=stack.event_url,
            auth_token=StackSecrets.load(stack.data_dir / "secrets.json").twilio_auth_token,
            event_key=WebhookKey(stack.data_dir / "sandbox" / "event-webhook-key.pem"),
        )

    def _target(self, campaign_id: str, number: int, attempt: int, recipient: str) -> Target:
        stack = self.stack.local
        ids = (stack.organisation_id.bytes, UUID(campaign_id).bytes)
        return Target(
            campaign_id=campaign_id,
            number=number,
            recipient=recipient,
            token=stack.token_key.sign_attempt(*ids, number, attempt),
            provider_message_id=f"SM{time.time_ns():032x}",
        )

"""A lane: campaigns of one channel, one after another, for as long as the soak goes on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from chaos.soak.campaign import SoakCampaign
from chaos.soak.checking import CampaignChecks
from outreach.client import OutreachClient
from outreach.vocabulary import Channel

#: A lane sends faster than its rate, so that it makes up for campaigns' ends and for faults.
PACE_SHARE = 2.5


@dataclass(frozen=True, kw_only=True)
class LaneTerms:
    """What a lane does.

    Attributes:
        rate: messages a second over the whole soak.
        campaign_seconds: so much sending, at that rate, is one campaign.
        end_monotonic_seconds: no campaign begins after it.
        seed: of watchers' restlessness.
    """

    channel: Channel
    rate: float
    campaign_seconds: float
    end_monotonic_seconds: float
    seed: int

    @property
    def campaign_messages(self) -> int:
        """How many messages a campaign has."""
        return max(1, round(self.rate * self.campaign_seconds))


class Lane:
    """Runs campaigns at a rate: each begins when its turn has come and the one before is final.

    The contacts of the next one are imported while one is being sent.
    """

    def __init__(
        self, terms: LaneTerms, clients: Sequence[OutreachClient], checks: CampaignChecks
    ) -> None:
        self._terms = terms
        self._clients = clients
        self._checks = checks
        self._chance = random.Random(f"{terms.seed}:{terms.channel.name}")
        self._recipients = count(0, terms.campaign_messages)

    async def run(self) -> None:
        """Until the soak's end, then until all campaigns are checked."""
        async with asyncio.TaskGroup() as tasks:
            campaign = await self._prepared()
            begun = time.monotonic()
            for number in count(1):
                following = tasks.create_task(self._prepared())
                final = asyncio.Event()
                tasks.create_task(self._play(campaign, final))
                await final.wait()
                campaign = await following
                await asyncio.sleep(
                    begun + number * self._terms.campaign_seconds - time.monotonic()
                )
                if time.monotonic() >= self._terms.end_monotonic_seconds:
                    return

    async def _prepared(self) -> SoakCampaign:
        terms = self._terms
        campaign = SoakCampaign(
            self._clients,
            terms.channel,
            next(self._recipients),
            terms.campaign_messages,
            self._chance,
        )
        await campaign.owner.prepare()
        return campaign

    async def _play(self, campaign: SoakCampaign, final: asyncio.Event) -> None:
        """From its run to its check; `final` is set when the channel is free for the next one."""
        begun_time = time.time()
        self._checks.expect(campaign)
        async with campaign.looked_at():
            if not await campaign.owner.run():
                raise RuntimeError(f"{campaign.campaign_id} was not let run")
            await campaign.owner.until_final()
            final.set()
            stored = await self._checks.settled(campaign)
        await self._checks.check(campaign, stored, begun_time)

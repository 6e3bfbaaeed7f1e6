"""A lane: campaigns of one channel, one after another, for as long as the soak goes on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from chaos.soak.campaign import SoakCampaign
from outreach.client import OutreachClient
from outreach.vocabulary import Channel

#: So much sending, at the lane's rate, is one campaign.
CAMPAIGN_SECONDS = 30.0
#: A lane sends faster than its rate, so that it makes up for campaigns' ends and for faults.
PACE_SHARE = 2.5


@dataclass(frozen=True)
class LaneTerms:
    """What a lane does.

    Attributes:
        rate: messages a second over the whole soak.
        end_monotonic_seconds: no campaign begins after it.
        done: is given each campaign that is final, and when it had begun.
    """

    channel: Channel
    rate: float
    end_monotonic_seconds: float
    done: Callable[[SoakCampaign, float], Awaitable[None]]

    @property
    def campaign_messages(self) -> int:
        """How many messages a campaign has."""
        return max(1, round(self.rate * CAMPAIGN_SECONDS))


class Lane:
    """Runs campaigns at a rate: each begins when its turn has come and the one before is final.

    The next one's contacts are imported while one is being sent.
    """

    def __init__(
        self,
        terms: LaneTerms,
        clients: Sequence[OutreachClient],
        known: Callable[[SoakCampaign], None],
        seed: int,
    ) -> None:
        self._terms = terms
        self._clients = clients
        self._known = known
        self._chance = random.Random(f"{seed}:{terms.channel.name}")
        self._made = 0

    async def run(self) -> None:
        """Until the soak's end, then to the end of the last campaign."""
        begun = time.monotonic()
        campaign = await self._prepared()
        async with asyncio.TaskGroup() as checking:
            for number in range(1, 1_000_000):
                begun_time = time.time()
                following = asyncio.create_task(self._prepared())
                try:
                    await self._to_the_end(campaign, begun_time, checking)
                    campaign = await following
                finally:
                    following.cancel()
                turn = begun + number * CAMPAIGN_SECONDS
                await asyncio.sleep(turn - time.monotonic())
                if time.monotonic() >= self._terms.end_monotonic_seconds:
                    return

    async def _prepared(self) -> SoakCampaign:
        count = self._terms.campaign_messages
        campaign = SoakCampaign(
            self._clients, self._terms.channel, self._made * count, count, self._chance
        )
        self._made += 1
        await campaign.owner.prepare()
        self._known(campaign)
        return campaign

    async def _to_the_end(
        self, campaign: SoakCampaign, begun_time: float, checking: asyncio.TaskGroup
    ) -> None:
        """Run it until all is final; what comes late is awaited, and checked, beside the next one."""
        final = asyncio.Event()
        finishing = checking.create_task(self._finish(campaign, begun_time, final))
        await asyncio.wait(
            [finishing, waiting := asyncio.create_task(final.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()

    async def _finish(
        self, campaign: SoakCampaign, begun_time: float, final: asyncio.Event
    ) -> None:
        async with campaign.looked_at():
            if not await campaign.owner.run():
                raise RuntimeError(f"the campaign {campaign.campaign_id} was not let run")
            await campaign.owner.until_final()
            final.set()
            await self._terms.done(campaign, begun_time)

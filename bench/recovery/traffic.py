"""A stack on which both channels send steadily: what the measurements of recovery disturb."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.campaigns import imported_campaign, imported_email_campaign
from bench.recovery.acceptances import Acceptances
from outreach.client import OutreachClient
from outreach.local.stack import LocalStack, StackOptions
from outreach.local.supervisor import EventKind
from outreach.vocabulary import Channel

#: Messages a second of each channel.
PACE = 150
#: A guard against a hang; a figure so large misses every aim.
STEADY_SECONDS_MAX = 60.0
RESTART_SECONDS_MAX = 60.0
#: Kills do not come at the same moment of the dispatcher's turn.
_PAUSE_SECONDS_MAX = 2.0
_POLL_SECONDS = 0.005
_HTML = '<h1>Hello {{name}}</h1><p>In {{city}} on {{day}}.</p><p><a href="{{unsubscribe_url}}">Off</a></p>'
_KNOBS = {"latency_ms": 50, "latency_jitter_ms": 50, "email": {"latency_ms": 400}}


@dataclass(frozen=True)
class Traffic:
    """A running stack, and the campaign of each channel that sends."""

    stack: LocalStack
    client: OutreachClient
    campaign_ids: dict[Channel, str]
    accepted: dict[Channel, Acceptances]

    async def steady(self) -> None:
        """Wait until both channels send steadily, and a little longer."""
        now = time.time()
        for acceptances in self.accepted.values():
            await acceptances.steady(now, STEADY_SECONDS_MAX)
        await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS_MAX))

    async def kill(
        self,
        name: str,
        *,
        down_seconds: float = 0.0,
        while_down: Callable[[], Awaitable[None]] | None = None,
    ) -> tuple[float, float]:
        """Kill a process with SIGKILL; when it was killed, and when the next one was healthy.

        Args:
            name: which.
            down_seconds: how long it is not started again.
            while_down: awaited in that time.
        """
        supervisor = self.stack.supervisor
        killed = time.time()
        pid = supervisor.kill(name, signal.SIGKILL, down_seconds=down_seconds)
        if while_down is not None:
            while supervisor.pid(name) is not None:  # noqa: ASYNC110 - it tells nobody else
                await asyncio.sleep(_POLL_SECONDS)
            await while_down()
        new_pid = await supervisor.wait_restarted(name, pid, RESTART_SECONDS_MAX)
        healthy = next(
            event.at_monotonic_seconds
            for event in reversed(supervisor.events)
            if event.pid == new_pid and event.kind is EventKind.HEALTHY
        )
        return killed, healthy + time.time() - time.monotonic()


@asynccontextmanager
async def traffic(seconds: float) -> AsyncIterator[Traffic]:
    """A stack with the product's own timers that sends on both channels for so long, if nothing is wrong."""
    options = StackOptions(
        segments_per_second_max=PACE, emails_per_second_max=PACE, knobs=_KNOBS, seed="recovery"
    )
    messages = round(seconds * PACE)
    async with LocalStack(options) as stack, stack.client() as client:
        made = {
            Channel.SMS: await imported_campaign(client, messages),
            Channel.EMAIL: await imported_email_campaign(client, messages, _HTML),
        }
        version = (await client.get_disclaimer()).version
        for campaign in made.values():
            await client.run_campaign(campaign.id, accepted_disclaimer_version=version)
        sandbox_dir = stack.data_dir / "sandbox"
        yield Traffic(
            stack,
            client,
            {channel: campaign.id for channel, campaign in made.items()},
            {channel: Acceptances(sandbox_dir, channel, PACE) for channel in made},
        )

"""How soon a stop bites: `python -m bench.stop_latency [stops]` (50).

A campaign runs against the zero-delay sink, is stopped at some moment, and goes on by retrying what was cancelled,
until little is left of it; then the next one does, as often as told. The figure is the time from the acknowledgement
of the stop, as its caller sees it, to the arrival of the last request that a sender began; negative when that was
before. Both clocks are the machine's monotonic one.
"""

import asyncio
import random
import sys
import time
from dataclasses import replace

import aiohttp
import uvloop

from bench.campaigns import imported_campaign, stack_options
from bench.sink import sink
from outreach.client import OutreachClient
from outreach.local.stack import LocalStack, StackOptions
from outreach.v1 import campaign_pb2, message_pb2

CONTACTS = 20_000
#: With less left another campaign is made, so that none ends before it is stopped.
CONTACTS_LEFT_MIN = 8_000
#: The moment of the stop, after the run's first request.
RUNNING_SECONDS = (0.3, 1.0)
AIM_MS = 300.0


def options(url: str) -> StackOptions:
    """The sink tells of no delivery; a stopped run has to end all the same, and soon."""
    chosen = stack_options(url)
    soon = {"OUTREACH_ASSUMED_DELIVERED_AFTER_SECONDS": "0.3"}
    return replace(chosen, settings={**chosen.settings, **soon})


async def ended(client: OutreachClient, campaign_id: str) -> campaign_pb2.Campaign:
    """Wait until everything that was handed over is final."""
    while True:
        campaign = await client.get_campaign(campaign_id)
        if campaign.status != campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS:
            return campaign
        await asyncio.sleep(0.05)


async def told(session: aiohttp.ClientSession, url: str) -> float:
    async with session.get(url) as answer:
        return float(await answer.read())


async def running(session: aiohttp.ClientSession, url: str, before: float) -> None:
    """Wait until something is sent."""
    for _ in range(1_000):
        if await told(session, f"{url}/count") > before:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nothing was sent for 20 s")


async def main(stops: int) -> None:
    chance = random.Random(4)
    latencies: list[float] = []
    sent_before = 0
    async with (
        sink() as url,
        LocalStack(options(url)) as stack,
        stack.client() as client,
        aiohttp.ClientSession() as session,
    ):
        version = (await client.get_disclaimer()).version
        left = 0
        for number in range(stops):
            if left < CONTACTS_LEFT_MIN:
                campaign = await imported_campaign(client, CONTACTS)
                sent_before = 0
                await client.run_campaign(campaign.id, accepted_disclaimer_version=version)
            else:
                await client.retry_messages(
                    campaign.id,
                    accepted_disclaimer_version=version,
                    statuses=[message_pb2.MESSAGE_STATUS_CANCELLED],
                )
            await running(session, url, await told(session, f"{url}/count"))
            await asyncio.sleep(chance.uniform(*RUNNING_SECONDS))
            stopping = time.monotonic()
            await client.stop_campaign(campaign.id)
            acknowledged = time.monotonic()
            campaign = await ended(client, campaign.id)
            latencies.append((await told(session, f"{url}/last") - acknowledged) * 1_000)
            left = campaign.counts.cancelled
            sent = campaign.counts.total - left
            call_ms = (acknowledged - stopping) * 1_000
            print(
                f"stop {number + 1:>3}: {sent - sent_before:>6,} sent, call {call_ms:>5.1f} ms,"
                f" last request {latencies[-1]:>+7.1f} ms",
                flush=True,
            )
            assert sent > sent_before, "nothing was running when it was stopped"
            sent_before = sent
    latencies.sort()
    p50, p99 = (
        latencies[len(latencies) // 2],
        latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))],
    )
    print(f"{stops} stops: p50 {p50:+.1f} ms, p99 {p99:+.1f} ms (aim: p99 at most {AIM_MS:.0f})")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))

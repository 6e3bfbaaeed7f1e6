"""From the restart of a process until both channels send as before."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench.recovery.traffic import STEADY_SECONDS_MAX, Traffic
from outreach.vocabulary import Channel

PROCESSES = (
    "campaign-1",
    "sender-sms-1",
    "sender-email-1",
    "nats",
    "postgres",
    "sandbox",
    "export-1",
)
#: Those on which others wait, down so long that these ask ever more rarely.
LONG_DOWN = ("campaign-1", "nats", "postgres", "sandbox")
LONG_DOWN_SECONDS = 15.0
WIPED_NATS = "nats, store lost"


@dataclass(frozen=True)
class Recovery:
    """What one kill cost.

    Attributes:
        what: the process that was killed.
        channel: whose sending.
        down_seconds: from the kill until its successor was healthy.
        on_seconds: from then until sending went on.
    """

    what: str
    channel: Channel
    down_seconds: float
    on_seconds: float


def long_down(name: str) -> str:
    """What a kill is called whose process is not started again for a while."""
    return f"{name}, {LONG_DOWN_SECONDS:.0f} s down"


async def restarts(traffic: Traffic, rounds: int) -> AsyncIterator[Recovery]:
    """Kill each process, some for longer, and NATS with the loss of its store too, as often as told."""
    for _ in range(rounds):
        for name in PROCESSES:
            await traffic.steady()
            killed, healthy = await traffic.kill(name)
            async for recovery in _recoveries(traffic, name, killed, healthy):
                yield recovery
        for name in LONG_DOWN:
            await traffic.steady()
            killed, healthy = await traffic.kill(name, down_seconds=LONG_DOWN_SECONDS)
            async for recovery in _recoveries(traffic, long_down(name), killed, healthy):
                yield recovery
        await traffic.steady()
        killed, healthy = await _lose_the_store(traffic)
        async for recovery in _recoveries(traffic, WIPED_NATS, killed, healthy):
            yield recovery


async def _recoveries(
    traffic: Traffic, what: str, killed: float, healthy: float
) -> AsyncIterator[Recovery]:
    for channel, acceptances in traffic.accepted.items():
        on = await acceptances.steady(healthy, STEADY_SECONDS_MAX)
        yield Recovery(what, channel, healthy - killed, on - healthy)


async def _lose_the_store(traffic: Traffic) -> tuple[float, float]:
    async def remove() -> None:
        await asyncio.to_thread(shutil.rmtree, traffic.stack.nats.store_dir)

    return await traffic.kill("nats", down_seconds=1.0, while_down=remove)

"""Watching all campaigns with many: `python -m bench.watch_many [watchers] [messages]` (1,000 and 20,000).

A stack without limits and the zero-delay sink; the watchers, in a process of their own, follow all campaigns while one
is sent. The figures: the campaign service's CPU with and without them, the sending rate, and how long after it was
known to a watcher of its own a change was told to each of the many.
"""

import asyncio
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from statistics import median, quantiles
from typing import Any

import psutil
import uvloop

from bench.campaigns import imported_campaign, run_to_handed_over, stack_options
from bench.sink import sink
from outreach.client import OutreachClient
from outreach.local.stack import LocalStack

#: A connection carries so many streams.
STREAMS_A_CONNECTION = 100


async def follow(
    client: OutreachClient, ready: asyncio.Semaphore, told: dict[int, list[float]]
) -> None:
    """Note when each revision came."""
    async for response in client.watch_campaigns():
        if response.HasField("snapshot"):
            ready.release()
        elif response.HasField("campaign") and response.campaign.run:
            told.setdefault(response.campaign.revision, []).append(time.monotonic())


async def watchers(address: str, api_key: str, number: int, pipe: Pipe) -> None:
    clients = [OutreachClient(address, api_key) for _ in range(0, number, STREAMS_A_CONNECTION)]
    ready, told = asyncio.Semaphore(0), dict[int, list[float]]()
    tasks = [
        asyncio.create_task(follow(clients[each // STREAMS_A_CONNECTION], ready, told))
        for each in range(number)
    ]
    for _ in tasks:
        await ready.acquire()
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await client.close()
    pipe.send(told)


def watching(address: str, api_key: str, number: int, pipe: Pipe) -> None:
    uvloop.run(watchers(address, api_key, number, pipe))


async def one_watcher(client: OutreachClient, campaign_id: str, known: dict[int, float]) -> None:
    """When each revision was known to somebody who watches this campaign alone."""
    async for response in client.watch_campaign(campaign_id):
        known[response.revision] = time.monotonic()


async def measured(
    stack: Any, client: OutreachClient, messages: int
) -> tuple[float, float, dict[int, float]]:
    """Messages a second, the campaign service's CPU (1.0: one core) meanwhile, and revisions as they were known."""
    campaign = await imported_campaign(client, messages)
    names = [name for name in stack.process_names if name.startswith("campaign")]
    processes = [psutil.Process(stack.supervisor.pid(name)) for name in names]
    known: dict[int, float] = {}
    watcher = asyncio.create_task(one_watcher(client, campaign.id, known))
    before = sum(sum(each.cpu_times()[:2]) for each in processes)
    began = time.perf_counter()
    rate = await run_to_handed_over(client, campaign)
    spent = time.perf_counter() - began
    cpu = sum(sum(each.cpu_times()[:2]) for each in processes) - before
    await asyncio.sleep(2)  # the slowest of the many hears of the end
    watcher.cancel()
    return rate, cpu / spent, known


def lags(known: dict[int, float], told: dict[int, list[float]]) -> list[float]:
    """Seconds from a revision's being known to each watcher's being told of it or of a later one."""
    revisions = sorted(known)
    found = []
    for revision, times in told.items():
        at = next((each for each in revisions if each >= revision), None)
        if at is not None:
            found += [max(0.0, each - known[at]) for each in times]
    return found


async def main(number: int, messages: int) -> int:
    context = get_context("spawn")
    async with sink() as url, LocalStack(stack_options(url)) as stack, stack.client() as client:
        alone = await measured(stack, client, messages)
        here, there = context.Pipe()
        arguments = (stack.address, stack.api_key, number, there)
        process = context.Process(target=watching, args=arguments)
        began = time.perf_counter()
        process.start()
        await asyncio.to_thread(here.recv)
        print(f"{number:,} watchers have their snapshot after {time.perf_counter() - began:.1f} s")
        rate, cpu, known = await measured(stack, client, messages)
        here.send("stop")
        told = await asyncio.to_thread(here.recv)
        await asyncio.to_thread(process.join)
    found = lags(known, told)
    print(f"{'':28}{'no watcher':>12}{number:>10,} watchers")
    print(f"{'messages/s':28}{alone[0]:>12,.0f}{rate:>10,.0f}")
    print(f"{'campaign service CPU, cores':28}{alone[1]:>12.2f}{cpu:>10.2f}")
    print(
        f"told {len(found):,} times; lag p50 {median(found):.2f} s, p99 {quantiles(found, n=100)[98]:.2f} s"
    )
    return 0


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    sys.exit(uvloop.run(main(*(given + [1_000, 20_000][len(given) :]))))

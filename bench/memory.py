"""Peak memory of each service over a whole campaign: `python -m bench.memory [contacts …]` (10,000 and 300,000).

A fresh stack for each size: upload, import, run against the zero-delay sink to the end, with a watcher that takes every
message change. The figure is the largest resident set of the process, sampled every 100 ms.
"""

import asyncio
import sys

import psutil
import uvloop

from bench.campaigns import imported_campaign, run_to_handed_over, stack_options
from bench.sink import sink
from outreach.local.stack import LocalStack

SAMPLE_SECONDS = 0.1


async def sample(stack: LocalStack, peaks: dict[str, int]) -> None:
    """Keep the largest resident set of each service, with its children (an import's worker), until cancelled."""
    names = [name for name in stack.process_names if name.startswith(("campaign", "sender"))]
    while True:
        for name in names:
            process = psutil.Process(stack.supervisor.pid(name))
            peaks[name] = max(peaks.get(name, 0), process.memory_info().rss)
            for child in process.children(recursive=True):
                try:
                    rss = child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                worker = f"{name} import worker"
                peaks[worker] = max(peaks.get(worker, 0), rss)
        await asyncio.sleep(SAMPLE_SECONDS)


async def peaks_at(url: str, contacts: int) -> tuple[dict[str, int], float]:
    """Peaks in bytes by process, and the sending rate."""
    peaks: dict[str, int] = {}
    async with LocalStack(stack_options(url)) as stack, stack.client() as client:
        sampling = asyncio.create_task(sample(stack, peaks))
        campaign = await imported_campaign(client, contacts)
        rate = await run_to_handed_over(client, campaign)
        sampling.cancel()
    return peaks, rate


async def main(sizes: list[int]) -> None:
    async with sink() as url:
        found = {size: await peaks_at(url, size) for size in sizes}
    print(f"{'peak MiB at':<28}" + "".join(f"{size:>12,}" for size in sizes) + f"{'growth':>9}")
    for name in sorted({name for peaks, _ in found.values() for name in peaks}):
        values = [peaks.get(name, 0) / 2**20 for peaks, _ in found.values()]
        growth = f"{values[-1] / values[0]:>8.2f}x" if values[0] else ""
        print(f"{name:<28}" + "".join(f"{value:>12.1f}" for value in values) + growth)
    print(f"{'messages/s':<28}" + "".join(f"{rate:>12,.0f}" for _, rate in found.values()))


if __name__ == "__main__":
    uvloop.run(main([int(size) for size in sys.argv[1:]] or [10_000, 300_000]))

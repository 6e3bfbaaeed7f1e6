"""`python -m chaos soak MINUTES`."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from chaos.soak.options import SoakOptions, stack_options
from chaos.soak.report import Growth, growths, memory_lines, other_lines, warm_up_seconds
from chaos.soak.soak import Soak
from chaos.stack import ChaosStack
from outreach.logs import configure_logs

_VIOLATIONS_SHOWN_MAX = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("minutes", type=float, help="for how long campaigns are begun")
    parser.add_argument("--rate", type=float, default=200, help="messages/s, both channels")
    parser.add_argument(
        "--fault-every", type=float, default=60, metavar="SECONDS", help="0: no faults"
    )
    parser.add_argument("--seed", type=int, default=1, help="of faults and fates")
    parser.add_argument("--directory", type=Path, help="for samples, logs and the report")


def main(arguments: argparse.Namespace) -> int:
    """Soak as told; 0: no violation, no leak, and it went on to its end."""
    directory = arguments.directory or Path(tempfile.gettempdir(), f"outreach-soak-{os.getpid()}")
    # PostgreSQL may run as another user, who has to get there.
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    # What the clients here meet with is a fault's doing.
    configure_logs(level="CRITICAL", service="soak")
    options = SoakOptions(
        seconds=arguments.minutes * 60,
        rate=arguments.rate,
        fault_every_seconds=arguments.fault_every or None,
        directory=directory.resolve(),
        seed=arguments.seed,
    )
    return asyncio.run(soak(options))


async def soak(options: SoakOptions) -> int:
    """Soak, and say what was found; the exit code."""
    for server in ("OUTREACH_POSTGRES_DSN", "OUTREACH_NATS_URL"):
        os.environ.pop(server, None)  # servers of our own: they will be killed
    print(f"samples, logs and the report are kept in {options.directory}", flush=True)
    data_dir = options.directory / "stack"
    try:
        async with ChaosStack(stack_options(options, data_dir)) as stack:
            soaked = Soak(options, stack)
            await soaked.run()
    finally:
        await asyncio.to_thread(_keep_logs_only, data_dir)
    found = [*growths(soaked.lives, soaked.seconds)]
    text = "\n".join(_summary(soaked, found))
    print(text, flush=True)
    (options.directory / "report.txt").write_text(text + "\n")
    (options.directory / "report.json").write_bytes(_report(soaked, found))
    leaks = any(growth.leaks for growth in found)
    return 1 if leaks or soaked.checks.violations or soaked.failures or soaked.interrupted else 0


def _keep_logs_only(data_dir: Path) -> None:
    kept = data_dir.with_name("log")
    shutil.rmtree(kept, ignore_errors=True)
    if (data_dir / "log").exists():
        (data_dir / "log").rename(kept)
    shutil.rmtree(data_dir, ignore_errors=True)


def _summary(soaked: Soak, found: list[Growth]) -> Iterator[str]:
    checks, faults = soaked.checks, soaked.disturbance
    yield f"\n{soaked.seconds / 60:.1f} minutes{', interrupted' if soaked.interrupted else ''}:"
    yield f"{checks.ledger.accepted:,} messages accepted, {soaked.rate:.1f}/s while campaigns were begun"
    yield (
        f"{checks.checked} campaigns with {checks.messages_checked:,} messages checked:"
        f" {len(checks.violations)} violations"
    )
    for violation in checks.violations[:_VIOLATIONS_SHOWN_MAX]:
        yield f"  {violation.invariant} {violation.campaign_id} {violation.text}"
    kinds = {one.fault.kind for one in faults.injected}
    yield f"{len(faults.injected)} faults of {len(kinds)} kinds: {', '.join(sorted(kinds))}"
    yield from (f"FAILED: {text}" for text in (*faults.failures, *soaked.failures))
    warm_up = warm_up_seconds(soaked.seconds)
    yield f"\nlongest life of each, without its first {warm_up / 60:.1f} minutes:"
    yield from memory_lines(found, soaked.lives)
    yield ""
    yield from other_lines(found)
    leaking = [f"{growth.source} {growth.figure}" for growth in found if growth.leaks]
    yield f"\nleaks: {', '.join(leaking) or 'none'}"


def _report(soaked: Soak, found: list[Growth]) -> bytes:
    """The same as data."""
    return orjson.dumps(
        {
            "ended": time.time(),
            "seconds": soaked.seconds,
            "messages_per_second": soaked.rate,
            "accepted": soaked.checks.ledger.accepted,
            "campaigns_checked": soaked.checks.checked,
            "violations": soaked.checks.violations,
            "faults": [one.done for one in soaked.disturbance.injected],
            "failures": [*soaked.disturbance.failures, *soaked.failures],
            "growth": [
                {
                    "source": growth.source,
                    "figure": growth.figure,
                    "first": growth.trend.first,
                    "last": growth.trend.last,
                    "share": growth.trend.share,
                    "per_hour": growth.trend.per_hour,
                    "leaks": growth.leaks,
                }
                for growth in found
            ],
        },
        option=orjson.OPT_INDENT_2,
    )

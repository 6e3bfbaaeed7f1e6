"""What a soak says: a line a minute, and at its end what grew and what did not.

How growth is measured. Samples are compared like with like: a process that a fault has ended begins
anew, so each life stands for itself, and the first minutes of a life are left out: they fill caches,
pools and the allocator (the 100,000 webhook ids that a sender remembers take eight minutes at 200
messages/s). What is left of a service's longest life is fitted by a line of least squares,
and its first fifth is compared with its last, median with median. It leaks when both gained more than
is allowed (`ALLOWANCES`). The first replica of each service lives through the whole soak
(`chaos.soak.disturbance`), so that is its longest life. Of the replicas that are killed, what they hold
at the same age is told for the first and the last life: it shows what a restart takes over.

JetStream and tables have one life: with campaigns always of the same size and deleted after the same
time, what is stored has to stay level too. The sandbox keeps every message in its ledger, and PostgreSQL
and NATS are not ours (each of PostgreSQL's backends keeps the files open that it has ever read, until it
ends): what they hold is told, and not judged, but for the connections that our services make to
PostgreSQL. Nor is a life judged that was measured for less than a quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from chaos.soak.growth import Allowance, Trend
from chaos.soak.lives import FIGURES, Life, Lives

_MIB: Final = 2**20

#: What each figure may gain; an absolute one keeps small numbers from being called a leak.
ALLOWANCES: Final[Mapping[str, Allowance]] = {
    "rss_bytes": Allowance(share=0.05),
    "file_descriptors": Allowance(share=0.05, absolute=10),
    "threads": Allowance(share=0.05, absolute=4),
    "tasks": Allowance(share=0.05, absolute=20),
    "connections": Allowance(share=0.05, absolute=10),
    "jetstream_bytes": Allowance(share=0.05, absolute=4 * _MIB),
    "jetstream_messages": Allowance(share=0.05, absolute=1_000),
    "dead_tuples": Allowance(share=0.2, absolute=20_000),
    "table_bytes": Allowance(share=0.1, absolute=8 * _MIB),
}
#: Servers and the double: what they hold is told, and is no service's growth.
_OTHERS: Final = ("postgres", "nats", "sandbox", "soak")
_WARM_UP_SECONDS_MAX: Final = 600.0
_WARM_UP_SHARE: Final = 1 / 6
_JUDGED_SECONDS_MIN: Final = 900.0
_COMPARED_AGE_SECONDS: Final = 120.0


def warm_up_seconds(soak_seconds: float) -> float:
    """So much of each life is left out: ten minutes of an hour, and the same share of a shorter soak."""
    return min(_WARM_UP_SECONDS_MAX, soak_seconds * _WARM_UP_SHARE)


def _is_ours(source: str, figure: str) -> bool:
    if source == "postgres":
        return figure == "connections"
    return not source.startswith(_OTHERS)


@dataclass(frozen=True)
class Growth:
    """How a figure of a source went, and whether that is a leak."""

    source: str
    figure: str
    trend: Trend
    judged: bool
    leaks: bool


def growths(lives: Lives, soak_seconds: float) -> Iterator[Growth]:
    """Of every figure of every source that was sampled long enough."""
    warm_up = warm_up_seconds(soak_seconds)
    for source in lives.sources:
        life = lives.longest(source)
        for figure in FIGURES:
            found = life.trend(figure, warm_up)
            if found is None:
                continue
            judged = found.seconds >= _JUDGED_SECONDS_MIN and _is_ours(source, figure)
            leaks = judged and found.exceeds(ALLOWANCES[figure])
            yield Growth(source, figure, found, judged, leaks)


def memory_lines(found: list[Growth], lives: Lives) -> Iterator[str]:
    """The memory of each process, longest life."""
    yield f"{'memory, MiB':<22}{'lives':>6}{'minutes':>9}{'first':>8}{'last':>8}{'growth':>8}{'MiB/h':>8}"
    for growth in found:
        if growth.figure != "rss_bytes":
            continue
        trend = growth.trend
        yield (
            f"{growth.source:<22}{len(lives.of(growth.source)):>6}{trend.seconds / 60:>9.1f}"
            f"{trend.first / _MIB:>8.1f}{trend.last / _MIB:>8.1f}{trend.share:>8.1%}"
            f"{trend.per_hour / _MIB:>8.1f}{_verdict(growth)}"
        )
    for source in lives.sources:
        yield from _at_same_age(lives.of(source))


def other_lines(found: list[Growth]) -> Iterator[str]:
    """All that is not memory; small tables only if they leak."""
    yield f"{'all others':<32}{'figure':<20}{'first':>12}{'last':>12}{'per hour':>12}"
    for growth in found:
        trend = growth.trend
        small = max(trend.first, trend.last) <= ALLOWANCES[growth.figure].absolute
        if growth.figure == "rss_bytes" or (growth.source.startswith("table ") and small):
            continue
        yield (
            f"{growth.source:<32}{growth.figure:<20}{trend.first:>12,.0f}{trend.last:>12,.0f}"
            f"{trend.per_hour:>12,.0f}{_verdict(growth)}"
        )


def _at_same_age(lives: list[Life]) -> Iterator[str]:
    held = [
        rss
        for life in lives
        if (rss := life.at_age("rss_bytes", _COMPARED_AGE_SECONDS)) is not None
    ]
    if len(held) > 1 and lives[0].pid is not None:
        yield (
            f"  {lives[0].source}: at the age of {_COMPARED_AGE_SECONDS:.0f} s"
            f" {held[0] / _MIB:.1f} in its first life, {held[-1] / _MIB:.1f} in its last"
        )


def _verdict(growth: Growth) -> str:
    if not growth.judged:
        return "  (told only)"
    return "  LEAKS" if growth.leaks else ""

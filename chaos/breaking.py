"""Runs that must fail: each deliberate break of the product in a small run, and which invariants told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count

from chaos.breaks import BREAKS, Break
from chaos.plan import make_plan
from chaos.run import run

#: Enough for several commits of each kind.
BREAK_MESSAGES = 400
#: A fault that touches nothing of what is broken.
_QUIET_KINDS = ("kill-export",)


def seed_for(broken: Break, messages: int = BREAK_MESSAGES) -> int:
    """The first seed whose run gives the break something to break."""
    kinds = broken.kinds or _QUIET_KINDS
    return next(
        seed
        for seed in count(1)
        if broken.occasion(make_plan(seed, messages=messages, kinds=kinds))
    )


async def run_break(name: str, messages: int = BREAK_MESSAGES) -> Counter[str]:
    """Run it; how many violations of which invariant were found. Raises as `chaos.run.run` does."""
    broken = BREAKS[name]
    result = await run(
        seed_for(broken, messages),
        messages=messages,
        kinds=broken.kinds or _QUIET_KINDS,
        break_name=name,
    )
    return Counter(violation.invariant for violation in result.violations)


async def run_breaks(names: Sequence[str], messages: int = BREAK_MESSAGES) -> bool:
    """Run these, say a line of each; whether the checker told of every one what it is."""
    all_told = True
    for name in names:
        broken = BREAKS[name]
        told = await run_break(name, messages)
        found = ", ".join(f"{invariant} {number:,}" for invariant, number in sorted(told.items()))
        word = "caught" if told[broken.invariant] else "MISSED"
        print(f"{word}  {broken.invariant:<3} {name:<26} {found or 'nothing'}", flush=True)
        all_told = all_told and told[broken.invariant] > 0
    return all_told

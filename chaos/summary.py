"""What is said of runs: a line each, and a table of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from chaos.run import NOT_REACHED, RunResult
from outreach.vocabulary import Channel, FailureReason, MessageStatus

_VIOLATIONS_SHOWN_MAX = 10


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run in short; what a process that ran it tells the one that asked for it.

    Attributes:
        kinds: of its faults that happened, in order.
        missed: kinds of those that were armed where nobody came by.
        messages: of both campaigns.
        accepted: by the provider, on both channels.
        violations: how many.
        text: what is printed of it.
    """

    seed: int
    kinds: tuple[str, ...]
    missed: tuple[str, ...]
    seconds: float
    messages: int
    accepted: int
    violations: int
    by_invariant: dict[str, int]
    text: str

    def dump(self) -> bytes:
        """As JSON."""
        return orjson.dumps(asdict(self))

    @classmethod
    def load(cls, document: bytes) -> Outcome:
        """What `dump` gave."""
        return cls(**orjson.loads(document))


def outcome_of(result: RunResult, replay: str) -> Outcome:
    """A run in short, with the command that plays it again if it has failed."""
    history, violations = result.history, result.violations
    messages = sum(campaign.messages for campaign in result.plan.campaigns)
    verdict = f"{len(violations)} VIOLATIONS" if violations else "ok"
    ends = "; ".join(_ends(result, channel) for channel in Channel)
    pace = f"{result.seconds:5.1f} s {messages / result.seconds:4.0f}/s"
    pace += f"  lag {history.bounds.lag_seconds:3.1f} s"
    missed = tuple(one.kind for one in history.faults if one.details.endswith(NOT_REACHED))
    happened = tuple(one.kind for one in history.faults if not one.details.endswith(NOT_REACHED))
    kinds = ", ".join((*happened, *(f"({kind})" for kind in missed)))
    lines = [f"seed {result.seed:>4}  {verdict:<6} {pace}  {ends}  [{kinds}]"]
    if violations:
        shown = violations[:_VIOLATIONS_SHOWN_MAX]
        lines += [f"    {one.invariant} {one.campaign_id} {one.text}" for one in shown]
        if len(violations) > len(shown):
            lines.append(f"    … and {len(violations) - len(shown)} more")
        lines.append(f"    again: {replay}")
    return Outcome(
        seed=result.seed,
        kinds=happened,
        missed=missed,
        seconds=result.seconds,
        messages=messages,
        accepted=len(history.acceptances),
        violations=len(violations),
        by_invariant=dict(Counter(one.invariant for one in violations)),
        text="\n".join(lines),
    )


def summary(outcomes: Sequence[Outcome], broken: Sequence[int]) -> str:
    """All runs together; `broken`: seeds whose run could not be made."""
    kinds = Counter(kind for outcome in outcomes for kind in outcome.kinds)
    missed = Counter(kind for outcome in outcomes for kind in outcome.missed)
    by_invariant: Counter[str] = Counter()
    for outcome in outcomes:
        by_invariant.update(outcome.by_invariant)
    failed = [outcome.seed for outcome in outcomes if outcome.violations]
    messages = sum(outcome.messages for outcome in outcomes)
    accepted = sum(outcome.accepted for outcome in outcomes)
    none = "none: nothing lost, nothing sent twice" if outcomes else "nothing was checked"
    lines = [
        "",
        f"runs        {len(outcomes)}, of them {len(failed)} with violations",
        f"messages    {messages}, accepted by the provider {accepted}",
        f"violations  {_listed(by_invariant) or none}",
        f"faults      {sum(kinds.values())} of {len(kinds)} kinds",
        *(f"            {count:>4}  {kind}" for kind, count in sorted(kinds.items())),
        f"not reached {_listed(missed) or 'none'}",
    ]
    if failed:
        lines.append(f"failed      {' '.join(map(str, failed))}")
    if broken:
        lines.append(f"not run     {' '.join(map(str, broken))}")
    return "\n".join(lines)


def _ends(result: RunResult, channel: Channel) -> str:
    """The ends of a channel's messages, and how many of them are unconfirmed."""
    history = result.history
    of_channel = {one.campaign_id for one in history.campaigns if one.channel is channel}
    messages = [one for one in history.messages if one.campaign_id in of_channel]
    ends = Counter(one.status for one in messages)
    unconfirmed = sum(one.failure_reason is FailureReason.UNCONFIRMED for one in messages)
    named = Counter({status.name.lower(): ends[status] for status in MessageStatus if ends[status]})
    return f"{channel.name.lower()} {_listed(named)}, unconfirmed {unconfirmed}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))

"""What happens in a run, drawn from its seed alone: the same seed and options give the same plan. Pure.

A plan says when a fault begins and what clients do; what comes of it depends on the machine. So a
replay meets the same faults, not the same microsecond.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from chaos.faults import FAULTS, Fault, Topology
from chaos.knobs import draw_knobs
from outreach.vocabulary import Channel

MESSAGES = 2_000
#: Beyond the longest fault: callbacks and their retries, some look-ups, a slow machine.
SETTLING_SECONDS = 30.0


class Moment(StrEnum):
    """What a fault waits for."""

    IMPORT = "import"
    RUN = "run"
    RETRY = "retry"


#: How the kinds of deaths at a place in the code begin.
CRASH: Final = "crash-at:"

#: Deaths at a place in the code are armed right before something leads there. Faults of other kinds may come at any
#: time of a run.
_MOMENTS: Final[Mapping[str, Moment]] = {
    f"{CRASH}import-": Moment.IMPORT,
    f"{CRASH}retry-": Moment.RETRY,
}
#: Armed as the run begins, for what a client does soon.
_AT_ONCE: Final = (f"{CRASH}stop-", f"{CRASH}cancel-", f"{CRASH}deletion-")
#: What leads there comes when nearly all is sent.
_AT_THE_END: Final = (f"{CRASH}completion-", f"{CRASH}sweep-")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """A fault and when it begins: so long after its moment, and never before the one before is over."""

    moment: Moment
    at_seconds: float
    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPlan:
    """One of the two campaigns, and what its owner does with it.

    Attributes:
        per_second: the pace at which it is sent.
        stop_share: stopped when so much of it was accepted, and its cancelled messages are retried
            when it is final; None: not stopped.
        retries_failed: its failed messages are retried once it is final.
    """

    channel: Channel
    messages: int
    per_second: int
    stop_share: float | None
    retries_failed: bool

    @property
    def sending_seconds(self) -> float:
        """How long its sending takes without a fault."""
        return self.messages / self.per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsPlan:
    """What else clients do meanwhile.

    Attributes:
        opt_outs: recipients that opt out in mid-run, of each kind (call, reply, link).
        forged: webhooks that are forged or replayed, of each kind.
        competitor: another campaign is run on each channel while it is busy.
        deleted: a small finished campaign is deleted in mid-run.
    """

    opt_outs: int
    forged: int
    competitor: bool
    deleted: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run by its seed."""

    seed: int
    topology: Topology
    knobs: dict[str, Any]
    campaigns: tuple[CampaignPlan, ...]
    clients: ClientsPlan
    faults: tuple[PlannedFault, ...]
    send_window_seconds: int
    sms_request_seconds: int = 4
    email_request_seconds: int = 5

    @cached_property
    def hold_seconds(self) -> float:
        """So long the faults may hold a request between its sender and the provider."""
        return sum(planned.fault.hold_seconds for planned in self.faults)

    @property
    def settings(self) -> dict[str, str]:
        """The processes' environment: timers so short that a run takes seconds.

        What is unconfirmed after so long was looked up several times since the last fault.
        """
        settle_seconds = round(SETTLING_SECONDS + self.hold_seconds)
        sms, email = self.campaigns
        values = {
            "ASSUMED_DELIVERED_AFTER_SECONDS": 8,
            "LOOK_UP_AFTER_SECONDS": 2,
            "UNCONFIRMED_AFTER_SECONDS": settle_seconds,
            "REDISPATCH_AFTER_SECONDS": 1,
            "SEND_WINDOW_SECONDS": self.send_window_seconds,
            "SENDER_SMS_REQUEST_SECONDS_MAX": self.sms_request_seconds,
            "SENDER_EMAIL_REQUEST_SECONDS_MAX": self.email_request_seconds,
            "EMAIL_LOOK_UP_AFTER_SECONDS": 4,
            "EMAIL_TIMED_OUT_AFTER_SECONDS": settle_seconds + 4,
            "BOOTSTRAP_SEGMENTS_PER_SECOND_MAX": sms.per_second,
            "BOOTSTRAP_EMAILS_PER_SECOND_MAX": email.per_second,
        }
        return {f"OUTREACH_{name}": str(value) for name, value in values.items()}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The faults' kinds, in order."""
        return tuple(planned.fault.kind for planned in self.faults)

    def describe(self) -> str:
        """All of it, for people."""
        replicas = ", ".join(f"{name} {count}" for name, count in asdict(self.topology).items())
        lines = [f"seed       {self.seed}", f"topology   {replicas}"]
        for campaign in self.campaigns:
            stop = f", stopped at {campaign.stop_share:.0%}" if campaign.stop_share else ""
            retry = ", failed ones retried" if campaign.retries_failed else ""
            lines.append(
                f"{campaign.channel.name.lower():10} {campaign.messages} messages,"
                f" {campaign.per_second}/s{stop}{retry}"
            )
        clients = self.clients
        lines.append(
            f"clients    {clients.opt_outs} opt-outs and {clients.forged} forged webhooks a kind"
            f"{', competitors' if clients.competitor else ''}"
            f"{', a deletion' if clients.deleted else ''}"
        )
        for planned in self.faults:
            when, fault = f"{planned.moment} + {planned.at_seconds:.1f} s", planned.fault
            lines.append(f"fault      {when}: {fault.kind}, {fault.target}, {fault.details}")
        lines += [f"knob       {name} = {value}" for name, value in sorted(self.knobs.items())]
        lines += [f"setting    {name}={value}" for name, value in sorted(self.settings.items())]
        return "\n".join(lines)


def make_plan(
    seed: int, *, messages: int = MESSAGES, kinds: Sequence[str] = (), long: bool = False
) -> Plan:
    """The plan of a seed.

    The first fault's kind goes round all kinds with the seed, so that so many seeds in a row as
    there are kinds have each of them at least once.

    Args:
        seed: any.
        messages: of each of the two campaigns.
        kinds: only these kinds of faults; empty: all.
        long: faults in their long forms, of two minutes, where they have one.

    Raises:
        ValueError: a kind is not known.
    """
    known = sorted(kinds or FAULTS)
    unknown = set(known) - set(FAULTS)
    if unknown:
        raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
    topology = _topology(_chance(seed, "topology"))
    chance = _chance(seed, "faults")
    chosen = (known[seed % len(known)], *chance.choices(known, k=chance.choice((0, 0, 1, 1, 2, 3))))
    campaigns = _campaigns(_chance(seed, "campaigns"), messages, chosen)
    faults = [_fault(chance, kind, topology, campaigns, long=long) for kind in chosen]
    return Plan(
        seed=seed,
        topology=topology,
        knobs=draw_knobs(_chance(seed, "knobs")).model_dump(mode="json", exclude_defaults=True),
        campaigns=campaigns,
        clients=_clients(_chance(seed, "clients"), chosen),
        faults=tuple(sorted(faults, key=lambda planned: planned.at_seconds)),
        send_window_seconds=_chance(seed, "window").choice((3, 5, 10)),
    )


def _chance(seed: int, part: str) -> random.Random:
    """Each part of a plan has a source of its own, so that a change of one leaves the others."""
    return random.Random(f"{seed}:{part}")


def _topology(chance: random.Random) -> Topology:
    return Topology(
        campaign_replicas=chance.choice((1, 1, 2, 3)),
        sender_replicas=chance.choice((1, 1, 2, 3)),
        email_sender_replicas=chance.choice((1, 1, 2)),
        export_replicas=chance.choice((1, 1, 2)),
    )


def _campaigns(
    chance: random.Random, messages: int, kinds: Sequence[str]
) -> tuple[CampaignPlan, ...]:
    must_stop = any(kind.startswith((*_AT_ONCE, f"{CRASH}retry-")) for kind in kinds)
    return tuple(
        CampaignPlan(
            channel=channel,
            messages=messages,
            per_second=chance.choice((300, 400, 500)),
            stop_share=round(chance.uniform(0.2, 0.6), 2)
            if chance.random() < 0.3 or must_stop
            else None,
            retries_failed=chance.random() < 0.3,
        )
        for channel in Channel
    )


def _clients(chance: random.Random, kinds: Sequence[str]) -> ClientsPlan:
    must_delete = any(kind.startswith(f"{CRASH}deletion-") for kind in kinds)
    return ClientsPlan(
        opt_outs=chance.choice((0, 3, 8)),
        forged=chance.choice((0, 2, 5)),
        competitor=chance.random() < 0.4,
        deleted=chance.random() < 0.4 or must_delete,
    )


def _fault(
    chance: random.Random,
    kind: str,
    topology: Topology,
    campaigns: Sequence[CampaignPlan],
    *,
    long: bool,
) -> PlannedFault:
    moment = next((one for name, one in _MOMENTS.items() if kind.startswith(name)), Moment.RUN)
    sending_seconds = max(campaign.sending_seconds for campaign in campaigns)
    share = chance.uniform(0.05, 0.8)
    if kind.startswith(_AT_ONCE) or moment is not Moment.RUN:
        share = 0.0
    elif kind.startswith(_AT_THE_END):
        share = 1.0
    fault = FAULTS[kind].draw(chance, topology, long=long)
    return PlannedFault(moment=moment, at_seconds=round(share * sending_seconds, 2), fault=fault)

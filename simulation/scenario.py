"""A seed's scenario: who sends what to whom, what is done meanwhile, and which faults there are.

Drawn before the run. Each kind of fault is there in some seeds only, so that none hides behind another.
"""

from dataclasses import dataclass
from random import Random
from uuid import UUID

from outreach.recipients import recipient_hash
from outreach.vocabulary import Channel, MessageStatus

RECIPIENT_KEY = b"a key for simulations: nothing is secret"
ORGANISATION_ID = UUID(int=0x0A << 120 | 1)

#: In virtual seconds; the product's own limits are minutes to days.
SEND_WINDOW_SECONDS = 1.5
REQUEST_SECONDS_MAX = 3.0
LOOK_UP_AFTER_SECONDS = 1.0
UNCONFIRMED_AFTER_SECONDS = 15.0
ASSUMED_DELIVERED_AFTER_SECONDS = 6.0
EMAIL_LOOK_UP_AFTER_SECONDS = 6.0
EMAIL_TIMED_OUT_AFTER_SECONDS = 18.0
REDISPATCH_AFTER_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Fates:
    """How likely a request to the provider ends in each way; the rest is accepted and answered.

    Attributes:
        not_sent: nothing leaves the sender.
        lost: it never arrives, and the sender waits in vain.
        throttled: 429.
        refused: 4xx for the recipient; `opted_out`: because they had opted out there.
        failing: 5xx before anything was created.
        accepted_late: accepted, and the answer never comes; `accepted_failing`: accepted, and a 5xx.
        account: the account is refused.
    """

    not_sent: float = 0.0
    lost: float = 0.0
    throttled: float = 0.0
    refused: float = 0.0
    opted_out: float = 0.0
    failing: float = 0.0
    accepted_late: float = 0.0
    accepted_failing: float = 0.0
    account: float = 0.0


@dataclass(frozen=True, slots=True)
class Receipts:
    """How likely something befalls what the provider tells later.

    Attributes:
        lost, doubled, early: early is before the answer to the request.
        failed, deferred: what they say (deferred: email, and an end follows, or not).
        unlisted: a look-up never finds the message.
        late_seconds_max: the longest a receipt takes.
    """

    lost: float = 0.0
    doubled: float = 0.0
    early: float = 0.0
    failed: float = 0.0
    deferred: float = 0.0
    unlisted: float = 0.0
    late_seconds_max: float = 2.0


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """A fault: what, and when (seconds after the start). `point`: from then on when a process is there."""

    kind: str
    point: str
    at_seconds: float
    hold_seconds: float


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """One campaign. Times in seconds after its run began; None: not at all.

    Attributes:
        opt_outs: message numbers and times at which their recipients opt out.
        retries: after its end, each with `force`.
    """

    campaign_id: UUID
    messages: int
    stop_seconds: float | None
    opt_outs: tuple[tuple[int, float], ...]
    retries: tuple[bool, ...]

    def recipient(self, number: int) -> str:
        """Who gets a message; every seventh is the one before once more."""
        return f"+1500{self.campaign_id.int % 1000:03d}{number - (number % 7 == 0):04d}"

    def recipient_hash(self, number: int, channel: Channel) -> bytes:
        """What stands for them."""
        return recipient_hash(RECIPIENT_KEY, channel, self.recipient(number))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything about a seed that does not follow from the run."""

    seed: int
    channel: Channel
    campaigns: tuple[CampaignPlan, ...]
    senders: int
    replicas: int
    watchers: int
    per_request: int
    concurrency: int
    dispatch_tick_seconds: float
    #: The longest way of a request to the provider, or of its answer.
    way_seconds_max: float
    fates: Fates
    receipts: Receipts
    faults: tuple[FaultPlan, ...]

    @property
    def retried_statuses(self) -> tuple[MessageStatus, ...]:
        """What a retry takes."""
        return (MessageStatus.FAILED, MessageStatus.CANCELLED)


FAULT_KINDS = (
    "kill-at",
    "kill-at",
    "cut-at",
    "cut-at",
    "kill-sender",
    "kill-all-senders",
    "kill-campaign",
    "cut-streams",
    "jobs-redelivered",
    "nats-wiped",
    "nats-down",
    "store-down",
    "commits-unanswered",
    "drain-sender",
    "drain-campaign",
)
#: Where a process is when it is killed, or its streams are cut. Most of what can go wrong goes wrong here.
POINTS = (
    "hello asked",
    "claim asked",
    "claim answered",
    "reports asked",
    "ack answered",
    "look_up asked",
    "request begun",
    "committed",
)
#: After this the faults are over.
FAULTY_SECONDS = 14.0


def draw_scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    draw = Random(f"{seed}:scenario")
    channel = draw.choice((Channel.SMS, Channel.SMS, Channel.EMAIL))
    return Scenario(
        seed=seed,
        channel=channel,
        campaigns=tuple(_campaign(draw, seed, index) for index in range(draw.choice((1, 1, 2)))),
        senders=draw.choice((1, 2, 2, 3)),
        replicas=draw.choice((1, 2)),
        watchers=draw.choice((1, 2)),
        per_request=1 if channel is Channel.SMS else draw.choice((1, 4, 8)),
        concurrency=draw.choice((1, 2, 4)),
        dispatch_tick_seconds=draw.choice((0.15, 0.5)),
        way_seconds_max=draw.choice((0.1, 0.2, 0.8)),
        fates=_fates(draw),
        receipts=_receipts(draw, channel),
        faults=_faults(draw),
    )


def _campaign(draw: Random, seed: int, index: int) -> CampaignPlan:
    messages = draw.randint(6, 30)
    numbers = draw.sample(range(1, messages + 1), draw.choice((0, 0, 1, 3)))
    return CampaignPlan(
        campaign_id=UUID(int=(0xCA << 120) | seed % 2**32 << 16 | index + 1),
        messages=messages,
        stop_seconds=draw.uniform(0.05, 3) if draw.random() < 0.4 else None,
        opt_outs=tuple((number, draw.uniform(0, 2)) for number in numbers),
        retries=tuple(draw.random() < 0.4 for _ in range(draw.choice((0, 1, 1, 2)))),
    )


def _some(draw: Random, chance: float, most: float) -> float:
    """Present in some seeds only, and then of any strength."""
    return draw.uniform(0, most) if draw.random() < chance else 0.0


def _fates(draw: Random) -> Fates:
    return Fates(
        not_sent=_some(draw, 0.4, 0.2),
        lost=_some(draw, 0.4, 0.15),
        throttled=_some(draw, 0.4, 0.3),
        refused=_some(draw, 0.4, 0.2),
        opted_out=_some(draw, 0.3, 0.1),
        failing=_some(draw, 0.4, 0.15),
        accepted_late=_some(draw, 0.5, 0.25),
        accepted_failing=_some(draw, 0.4, 0.2),
        account=_some(draw, 0.1, 0.05),
    )


def _receipts(draw: Random, channel: Channel) -> Receipts:
    return Receipts(
        lost=_some(draw, 0.4, 0.4),
        doubled=_some(draw, 0.5, 0.5),
        early=_some(draw, 0.5, 0.5),
        failed=_some(draw, 0.6, 0.4),
        deferred=_some(draw, 0.5, 0.4) if channel is Channel.EMAIL else 0.0,
        unlisted=_some(draw, 0.2, 0.3),
        # The longest is later than an attempt is given up, so that a retry may have followed it.
        late_seconds_max=draw.choice((0.2, 2.0, 12.0, 40.0)),
    )


def _faults(draw: Random) -> tuple[FaultPlan, ...]:
    count = draw.choice((0, 1, 2, 3, 5, 8))
    kinds = draw.sample(FAULT_KINDS, draw.randint(1, 4))
    # Most of a run happens in its first seconds, so most faults do.
    plans = [
        FaultPlan(
            kind=draw.choice(kinds),
            point=draw.choice(POINTS),
            at_seconds=draw.choice((1.0, 3.0, FAULTY_SECONDS - 4)) * draw.random(),
            hold_seconds=draw.uniform(0.05, 4),
        )
        for _ in range(count)
    ]
    return tuple(sorted(plans, key=lambda plan: plan.at_seconds))

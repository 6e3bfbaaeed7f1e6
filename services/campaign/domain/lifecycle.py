"""The states of messages and campaigns, and every way between them: one table each.

SQL guards, CHECK constraints and docs/lifecycle.md come from these tables (tests and `python -m scripts.docs` hold them
together). Pure: values in, values out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from outreach.vocabulary import (
    CampaignAction,
    CampaignStatus,
    Channel,
    FailureReason,
    MessageStatus,
    Outcome,
)

S = MessageStatus


class Cause(StrEnum):
    """What moves a message."""

    RUN = "run"
    CLAIM = "claim"
    SUPPRESSED = "suppressed when its turn came"
    ARRIVED = "an earlier attempt arrived, known when its turn came"
    STOP = "stop, or a critical error of the campaign"
    REPORT = "report of a sender or a webhook"
    TIMER = "timer"
    RETRY = "retry"
    ERASURE = "the person was erased, or retention removed their data"


@dataclass(frozen=True, slots=True)
class Edge:
    """A permitted change of a message's status. `channels`: where it exists. `note`: when it occurs."""

    source: MessageStatus
    target: MessageStatus
    cause: Cause
    note: str
    channels: tuple[Channel, ...] = (Channel.SMS, Channel.EMAIL)
    #: Only from FAILED: the reason that the message must have.
    source_reason: FailureReason | None = None


_SMS, _EMAIL = (Channel.SMS,), (Channel.EMAIL,)

MESSAGE_EDGES: tuple[Edge, ...] = (
    Edge(S.WAITING, S.QUEUED, Cause.RUN, "the campaign is run"),
    Edge(S.WAITING, S.OPTED_OUT, Cause.ERASURE, "nobody is left to send to"),
    Edge(S.QUEUED, S.OPTED_OUT, Cause.ERASURE, "nobody is left to send to"),
    Edge(S.QUEUED, S.SENDING, Cause.CLAIM, "a sender may send it, for exactly one attempt"),
    Edge(S.QUEUED, S.OPTED_OUT, Cause.SUPPRESSED, "the recipient is suppressed"),
    Edge(S.QUEUED, S.DELIVERED, Cause.ARRIVED, "delivered before the retry, told after it"),
    Edge(S.QUEUED, S.ASSUMED_DELIVERED, Cause.ARRIVED, "accepted, likewise", _SMS),
    Edge(S.QUEUED, S.CANCELLED, Cause.STOP, "never handed over"),
    Edge(S.SENDING, S.QUEUED, Cause.REPORT, "handed back: certainly not sent"),
    Edge(S.SENDING, S.SENT, Cause.REPORT, "the provider accepted it"),
    Edge(S.SENDING, S.RETRYING, Cause.REPORT, "deferred, told before the answer", _EMAIL),
    Edge(S.SENDING, S.DELIVERED, Cause.REPORT, "confirmed, told before the answer"),
    Edge(
        S.SENDING,
        S.FAILED,
        Cause.REPORT,
        "the provider refused it, or it failed, told before the answer",
    ),
    Edge(S.SENDING, S.FAILED, Cause.TIMER, "UNCONFIRMED: nobody said what became of it"),
    Edge(
        S.SENDING, S.OPTED_OUT, Cause.REPORT, "refused: the recipient had opted out at the provider"
    ),
    Edge(S.SENT, S.RETRYING, Cause.REPORT, "the recipient's server deferred it", _EMAIL),
    Edge(S.SENT, S.DELIVERED, Cause.REPORT, "confirmed"),
    Edge(S.SENT, S.ASSUMED_DELIVERED, Cause.TIMER, "no receipt within the time limit", _SMS),
    Edge(S.SENT, S.FAILED, Cause.REPORT, "failed after it was accepted"),
    Edge(S.SENT, S.FAILED, Cause.TIMER, "UNCONFIRMED: nothing was told of it for too long", _EMAIL),
    Edge(S.SENT, S.OPTED_OUT, Cause.REPORT, "dropped: the recipient had opted out at the provider"),
    Edge(S.RETRYING, S.DELIVERED, Cause.REPORT, "confirmed", _EMAIL),
    Edge(S.RETRYING, S.FAILED, Cause.REPORT, "bounced", _EMAIL),
    Edge(S.RETRYING, S.FAILED, Cause.TIMER, "TIMED_OUT: deferred for too long", _EMAIL),
    Edge(S.RETRYING, S.OPTED_OUT, Cause.REPORT, "dropped: opted out", _EMAIL),
    Edge(S.ASSUMED_DELIVERED, S.DELIVERED, Cause.REPORT, "a late receipt", _SMS),
    Edge(S.ASSUMED_DELIVERED, S.FAILED, Cause.REPORT, "a late receipt", _SMS),
    Edge(S.DELIVERED, S.FAILED, Cause.REPORT, "a bounce after delivery", _EMAIL),
    Edge(
        S.FAILED,
        S.ASSUMED_DELIVERED,
        Cause.REPORT,
        "the provider says at last that it had accepted it",
        _SMS,
        FailureReason.UNCONFIRMED,
    ),
    Edge(
        S.FAILED, S.DELIVERED, Cause.REPORT, "delivered after all, whatever was told before", _SMS
    ),
    Edge(
        S.FAILED,
        S.DELIVERED,
        Cause.REPORT,
        "the provider says at last that it was delivered",
        _EMAIL,
        source_reason=FailureReason.UNCONFIRMED,
    ),
    Edge(
        S.FAILED,
        S.FAILED,
        Cause.REPORT,
        "the provider says at last why it failed",
        source_reason=FailureReason.UNCONFIRMED,
    ),
    Edge(S.FAILED, S.QUEUED, Cause.RETRY, "the caller asks for another attempt"),
    Edge(S.CANCELLED, S.QUEUED, Cause.RETRY, "the caller asks for cancelled ones"),
)

#: No more happens to these by themselves.
FINAL = frozenset({S.DELIVERED, S.ASSUMED_DELIVERED, S.FAILED, S.OPTED_OUT, S.CANCELLED})
#: While a message is one of these its campaign is IN_PROGRESS.
ACTIVE = frozenset({S.QUEUED, S.SENDING, S.SENT})

#: What an outcome turns a message into; None: the status stays.
OUTCOME_TARGET: dict[Outcome, MessageStatus | None] = {
    Outcome.ACCEPTED: S.SENT,
    Outcome.REJECTED: S.FAILED,
    Outcome.HANDED_BACK: S.QUEUED,
    Outcome.UNKNOWN: None,
    Outcome.NOT_FOUND: None,
    Outcome.DELIVERED: S.DELIVERED,
    Outcome.FAILED: S.FAILED,
    Outcome.DEFERRED: S.RETRYING,
    Outcome.OPTED_OUT: S.OPTED_OUT,
}


def report_edges(
    channel: Channel,
) -> list[tuple[MessageStatus, MessageStatus, FailureReason | None]]:
    """What a report may change on this channel: source, target, the reason a FAILED source must have."""
    return [
        (edge.source, edge.target, edge.source_reason)
        for edge in MESSAGE_EDGES
        if edge.cause is Cause.REPORT and channel in edge.channels
    ]


def edge_codes(
    edges: Iterable[tuple[MessageStatus, MessageStatus, FailureReason | None]],
) -> list[int]:
    """Edges as the integers that the SQL guard compares: reason * 10000 + source * 100 + target (reason 0: any)."""
    return [(reason or 0) * 10_000 + source * 100 + target for source, target, reason in edges]


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages by status, in the order of MessageStatus."""

    waiting: int = 0
    queued: int = 0
    sending: int = 0
    sent: int = 0
    retrying: int = 0
    delivered: int = 0
    assumed_delivered: int = 0
    failed: int = 0
    opted_out: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All messages."""
        return sum(self.as_list())

    @property
    def active(self) -> int:
        """Messages that keep the campaign IN_PROGRESS."""
        return self.queued + self.sending + self.sent

    def as_list(self) -> list[int]:
        """By status number, 1…10."""
        return [
            self.waiting,
            self.queued,
            self.sending,
            self.sent,
            self.retrying,
            self.delivered,
            self.assumed_delivered,
            self.failed,
            self.opted_out,
            self.cancelled,
        ]

    def moved(self, moves: Iterable[tuple[int, int]]) -> "Counts":
        """After each move of one message from one status to another."""
        values = self.as_list()
        for source, target in moves:
            values[source - 1] -= 1
            values[target - 1] += 1
        return Counts(*values)


def campaign_status(
    counts: Counts, *, run: int, template_valid: bool, critical_failure: bool
) -> CampaignStatus:
    """The status that follows from the messages. `critical_failure`: the run met an error that ended it."""
    if run == 0:
        ready = counts.total > 0 and template_valid
        return CampaignStatus.READY if ready else CampaignStatus.CREATED
    if counts.active:
        return CampaignStatus.IN_PROGRESS
    if critical_failure:
        return CampaignStatus.FAILED
    if counts.retrying:
        return CampaignStatus.ACTIVE_RETRIES
    return CampaignStatus.COMPLETE_WITH_ERRORS if counts.failed else CampaignStatus.COMPLETE


#: The states in which an action is allowed. Further conditions are in `allowed_actions`.
ACTION_STATUSES: dict[CampaignAction, tuple[CampaignStatus, ...]] = {
    CampaignAction.UPDATE: (CampaignStatus.CREATED, CampaignStatus.READY),
    CampaignAction.IMPORT_CONTACTS: (CampaignStatus.CREATED,),
    CampaignAction.RUN: (CampaignStatus.READY,),
    CampaignAction.STOP: (CampaignStatus.IN_PROGRESS,),
    CampaignAction.RETRY: (
        CampaignStatus.COMPLETE,
        CampaignStatus.COMPLETE_WITH_ERRORS,
        CampaignStatus.FAILED,
    ),
    CampaignAction.DELETE: (
        CampaignStatus.CREATED,
        CampaignStatus.READY,
        CampaignStatus.COMPLETE,
        CampaignStatus.COMPLETE_WITH_ERRORS,
        CampaignStatus.FAILED,
    ),
    CampaignAction.EXPORT: tuple(CampaignStatus),
}


def allowed_actions(
    status: CampaignStatus, counts: Counts, *, stopped: bool
) -> tuple[CampaignAction, ...]:
    """What may be done now. `stopped`: the current run was stopped and is running out."""
    conditions = {
        CampaignAction.IMPORT_CONTACTS: counts.total == 0,
        CampaignAction.RUN: counts.waiting > 0,
        CampaignAction.STOP: not stopped,
        CampaignAction.RETRY: status is CampaignStatus.COMPLETE_WITH_ERRORS or counts.cancelled > 0,
    }
    return tuple(
        action
        for action, statuses in ACTION_STATUSES.items()
        if status in statuses and conditions.get(action, True)
    )

"""What a sender learned about one attempt, and what a provider answered to one request."""

from collections.abc import Sequence
from dataclasses import dataclass

from outreach.internal.v1 import delivery_pb2
from outreach.vocabulary import OUTCOME_RANK, Channel, FailureReason, Outcome


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """One attempt's outcome (`outreach.internal.v1.Report` has the meaning of each field).

    `segments` is 0 where it is not known. `failure_reason` goes with REJECTED and FAILED.
    """

    number: int
    attempt: int
    outcome: Outcome
    provider_message_id: str = ""
    failure_reason: FailureReason | None = None
    provider_code: str = ""
    segments: int = 0

    def to_report(self) -> delivery_pb2.Report:
        """The outcome as it goes over the stream."""
        return delivery_pb2.Report(
            number=self.number,
            attempt=self.attempt,
            outcome=int(self.outcome),  # type: ignore[arg-type]  # same numbers, held by a test
            provider_message_id=self.provider_message_id,
            failure_reason=int(self.failure_reason or 0),  # type: ignore[arg-type]
            provider_code=self.provider_code,
            segments=self.segments,
        )

    @classmethod
    def from_report(cls, report: delivery_pb2.Report) -> "AttemptOutcome":
        """The outcome that a report carries."""
        return cls(
            number=report.number,
            attempt=report.attempt,
            outcome=Outcome(report.outcome),
            provider_message_id=report.provider_message_id,
            failure_reason=FailureReason(report.failure_reason) if report.failure_reason else None,
            provider_code=report.provider_code,
            segments=report.segments,
        )


def merged(first: AttemptOutcome, second: AttemptOutcome, channel: Channel) -> AttemptOutcome:
    """One outcome out of two for the same attempt, in either order.

    The one of higher rank on the channel wins; the provider's id and the segments are kept from
    wherever they were known.
    """
    high, low = first, second
    rank = OUTCOME_RANK[channel]
    if rank[second.outcome] > rank[first.outcome]:
        high, low = second, first
    return AttemptOutcome(
        high.number,
        high.attempt,
        high.outcome,
        high.provider_message_id or low.provider_message_id,
        high.failure_reason,
        high.provider_code,
        max(high.segments, low.segments),
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """The request is over and every message of it has an outcome.

    `concurrent_requests`: how many requests of the account the provider had at once, if it says so.
    """

    outcomes: Sequence[AttemptOutcome]
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Divided:
    """Nothing was created, and the messages may not stay together in one request.

    `outcomes` are known for some of them; all the others are in `parcels`, each smaller than what
    was to be sent, and each becomes a request of its own under the same claim.
    """

    outcomes: Sequence[AttemptOutcome]
    parcels: Sequence[Sequence[delivery_pb2.ClaimedMessage]]


@dataclass(frozen=True, slots=True)
class Throttled:
    """The provider had too much to do; nothing was created. The same attempt may be tried again.

    `retry_after_seconds`: it takes nothing of the account before that.
    """

    concurrent_requests: int | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing was sent that could have created anything: no byte left this host, or the request's
    end did not. `cause` is for the log: the name of the error.
    """

    cause: str


@dataclass(frozen=True, slots=True)
class AccountRefused:
    """The provider refuses the account or the content: nothing was created, and nothing will be for
    others.
    """

    failure_reason: FailureReason
    provider_code: str


Answer = Answered | Divided | Throttled | NotSent | AccountRefused

"""What Twilio's message resources say of an attempt, and finding it in the list: there is no id of ours in it.

The list filters by recipient only (the date filter is by date sent, which is not set yet, and by
the day). What remains is matched by text, sender and time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from outreach.internal.v1 import delivery_pb2
from outreach.sending.outcomes import AttemptOutcome
from outreach.vocabulary import Outcome
from services.sender_sms.codes import status_outcome

#: Twilio's clock and ours may differ by this; its times are whole seconds.
CLOCK_SKEW: Final = timedelta(seconds=5)
PAGE_SIZE: Final = 1_000
#: 1,600 characters, each of two units, at 67 a segment: a larger number is no count.
SEGMENTS_MAX: Final = 48


@dataclass(frozen=True, slots=True)
class Listed:
    """What is read of a listed message."""

    sid: str
    status: str
    body: str
    sender: str
    messaging_service_sid: str
    error_code: str
    segments: int
    created: datetime

    @classmethod
    def parse(cls, raw: Mapping[str, object]) -> "Listed":
        """Raises KeyError, TypeError or ValueError for anything that is not a message."""
        return cls(
            sid=str(raw["sid"]),
            status=str(raw["status"]),
            body=str(raw["body"]),
            sender=str(raw.get("from") or ""),
            messaging_service_sid=str(raw.get("messaging_service_sid") or ""),
            error_code=str(raw.get("error_code") or ""),
            segments=min(max(int(str(raw.get("num_segments") or 0)), 0), SEGMENTS_MAX),
            created=parsedate_to_datetime(str(raw["date_created"])).astimezone(UTC),
        )


def list_query(recipient: str) -> dict[str, str]:
    """The query of the list request."""
    return {"To": recipient, "PageSize": str(PAGE_SIZE)}


def find_message(
    listed: Sequence[Listed], attempt: delivery_pb2.UnknownAttempt, *, body: str, sender: str
) -> AttemptOutcome:
    """What the list says of an attempt: the earliest match, or NOT_FOUND.

    `sender`: the Messaging Service or number that the attempt was sent with.
    """
    others = frozenset(attempt.other_provider_message_ids)
    earliest = attempt.claim_time.ToDatetime(UTC) - CLOCK_SKEW
    matches = [
        found
        for found in listed
        if found.body == body
        and sender in (found.messaging_service_sid, found.sender)
        and found.created >= earliest
        and found.sid not in others
    ]
    for found in sorted(matches, key=lambda match: match.created):
        told = _told(found, attempt)
        if told is not None:
            return told
    return no_news(attempt)


def last_word(found: Listed, attempt: delivery_pb2.UnknownAttempt) -> AttemptOutcome:
    """How the message of an attempt ended; NOT_FOUND while it has not, as far as Twilio knows."""
    told = _told(found, attempt)
    if told is None or told.outcome is Outcome.ACCEPTED:
        return no_news(attempt)
    return told


def no_news(attempt: delivery_pb2.UnknownAttempt) -> AttemptOutcome:
    """Twilio knows nothing (yet) that we do not."""
    return AttemptOutcome(attempt.message.number, attempt.message.attempt, Outcome.NOT_FOUND)


def _told(found: Listed, attempt: delivery_pb2.UnknownAttempt) -> AttemptOutcome | None:
    """What a message's status proves of its attempt. None for an unknown status."""
    proved = status_outcome(found.status, found.error_code)
    if proved is None:
        return None
    outcome, reason, code = proved
    return AttemptOutcome(
        attempt.message.number,
        attempt.message.attempt,
        outcome,
        provider_message_id=found.sid,
        failure_reason=reason,
        provider_code=code,
        segments=found.segments,
    )

"""What Twilio's webhooks mean: status callbacks to outcomes, inbound messages to opt-outs. Pure."""

from collections.abc import Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from outreach.internal.v1 import delivery_pb2
from outreach.sending.attempt_token import AttemptId
from outreach.sending.inbox import InboxEntry
from outreach.sending.outcomes import AttemptOutcome
from outreach.v1 import channel_pb2
from services.sender_sms.codes import STATUSES, status_outcome

#: Twilio's default keywords; a message counts only when it is exactly one of them.
STOP_KEYWORDS: Final = frozenset(
    ("STOP", "UNSUBSCRIBE", "END", "QUIT", "STOPALL", "REVOKE", "OPTOUT", "CANCEL")
)
START_KEYWORDS: Final = frozenset(("START", "YES", "UNSTOP"))

#: What is kept of a status callback: no recipient, no sender.
STATUS_FIELDS: Final = ("MessageSid", "MessageStatus", "ErrorCode")
#: What is kept of an inbound message that opts out or in; `Action` is ours.
FROM_FIELD: Final = "From"
ACTION_FIELD: Final = "Action"

_ACTIONS: Final = {
    "STOP": delivery_pb2.OPT_OUT_ACTION_ADD,
    "START": delivery_pb2.OPT_OUT_ACTION_REMOVE,
}


def opt_out_action(fields: Mapping[str, str]) -> str | None:
    """`STOP` or `START` when an inbound message opts its sender out or in, else None.

    Advanced Opt-Out says it in `OptOutType`; without that the text is compared with the default
    keywords, regardless of case and of spaces around it.
    """
    advanced = fields.get("OptOutType")
    if advanced:
        return advanced if advanced in _ACTIONS else None
    word = fields.get("Body", "").strip().upper()
    if word in STOP_KEYWORDS:
        return "STOP"
    return "START" if word in START_KEYWORDS else None


def is_known_status(fields: Mapping[str, str]) -> bool:
    """Whether a status callback proves anything about its attempt."""
    return fields.get("MessageStatus", "") in STATUSES


def interpret(entry: InboxEntry) -> AttemptOutcome | delivery_pb2.OptOut | None:
    """The meaning of a stored webhook. Raises KeyError for an entry that is not one of ours."""
    if entry.attempt is None:
        return reply_opt_out(entry)
    return _outcome(entry.attempt, entry.fields)


def _outcome(attempt: AttemptId, fields: Mapping[str, str]) -> AttemptOutcome | None:
    proved = status_outcome(fields["MessageStatus"], fields.get("ErrorCode", ""))
    if proved is None:
        return None
    outcome, reason, code = proved
    return AttemptOutcome(
        attempt.number,
        attempt.attempt,
        outcome,
        provider_message_id=fields["MessageSid"],
        failure_reason=reason,
        provider_code=code,
    )


def reply_opt_out(entry: InboxEntry) -> delivery_pb2.OptOut:
    """What a reply asks for. Raises KeyError for an entry that is none."""
    time = Timestamp()
    time.FromDatetime(entry.time)
    return delivery_pb2.OptOut(
        organisation_id=str(entry.organisation_id),
        channel=channel_pb2.CHANNEL_SMS,
        recipient=entry.fields[FROM_FIELD],
        action=_ACTIONS[entry.fields[ACTION_FIELD]],
        time=time,
        source="reply",
    )

"""What the entries of the email inbox mean: events to outcomes and opt-outs, unsubscribe links to opt-outs. Pure."""

from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from outreach.internal.v1 import delivery_pb2
from outreach.recipients import RECIPIENT_HASH_BYTES
from outreach.sending.attempt_token import AttemptId, UnsubscribeId
from outreach.sending.inbox import InboxEntry
from outreach.sending.outcomes import AttemptOutcome
from outreach.v1 import channel_pb2
from services.sender_email.event_fields import EVENT, MESSAGE_ID, RECIPIENT_HASH
from services.sender_email.reasons import outcome_of

#: Stands where an event has its type: somebody used an unsubscribe link of ours.
LINK_USED: Final = "unsubscribe_link"

_ADD = delivery_pb2.OPT_OUT_ACTION_ADD
#: What an event says of its recipient, and how the opt-out came about.
_OPT_OUTS: Final = {
    "spamreport": (_ADD, "spam_report"),
    "unsubscribe": (_ADD, "provider"),
    "group_unsubscribe": (_ADD, "provider"),
    "group_resubscribe": (delivery_pb2.OPT_OUT_ACTION_REMOVE, "provider"),
}


def link_used(unsubscribe: UnsubscribeId, time: datetime) -> InboxEntry:
    """The entry of an unsubscribe link that was used."""
    fields = {EVENT: LINK_USED, RECIPIENT_HASH: unsubscribe.recipient_hash.hex()}
    return InboxEntry(unsubscribe.organisation_id, None, fields, time)


def interpret(entry: InboxEntry) -> AttemptOutcome | delivery_pb2.OptOut | None:
    """The meaning of an entry. Raises KeyError or ValueError for one that is not one of ours."""
    attempt, fields = entry.attempt, entry.fields
    if attempt is None:
        return link_opt_out(entry)
    proved = outcome_of(fields)
    if proved is None:
        return _by_event(entry, attempt)
    outcome, reason, code = proved
    return AttemptOutcome(
        attempt.number, attempt.attempt, outcome, fields.get(MESSAGE_ID, ""), reason, code
    )


def _by_event(entry: InboxEntry, attempt: AttemptId) -> delivery_pb2.OptOut | None:
    """By the recipient's hash: the message may be gone. By the message where the hash did not come back."""
    if entry.fields[EVENT] not in _OPT_OUTS:
        return None
    action, source = _OPT_OUTS[entry.fields[EVENT]]
    opt_out = delivery_pb2.OptOut(
        organisation_id=str(entry.organisation_id),
        channel=channel_pb2.CHANNEL_EMAIL,
        action=action,
        time=_timestamp(entry.time),
        source=source,
    )
    if RECIPIENT_HASH in entry.fields:
        opt_out.recipient_hash = bytes.fromhex(entry.fields[RECIPIENT_HASH])
    else:
        opt_out.campaign_id, opt_out.number = str(attempt.campaign_id), attempt.number
    return opt_out


def link_opt_out(entry: InboxEntry) -> delivery_pb2.OptOut:
    """The meaning of the entry of a link that was used."""
    if entry.fields[EVENT] != LINK_USED:
        raise ValueError("an event without an attempt")
    recipient_hash = bytes.fromhex(entry.fields[RECIPIENT_HASH])
    if len(recipient_hash) != RECIPIENT_HASH_BYTES:
        raise ValueError("not the hash of a recipient")
    return delivery_pb2.OptOut(
        organisation_id=str(entry.organisation_id),
        channel=channel_pb2.CHANNEL_EMAIL,
        action=_ADD,
        time=_timestamp(entry.time),
        recipient_hash=recipient_hash,
        source="link",
    )


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp

"""Opt-outs and opt-ins that senders tell of, stored as suppressions, a batch in one statement.

The recipient is kept beside the hash where it is known, so that people can read the list.

Harmless when repeated: keyed by organisation, channel and recipient, and the latest by its time counts.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final
from uuid import UUID

from outreach.internal.v1 import delivery_pb2
from outreach.recipients import RECIPIENT_HASH_BYTES, recipient_hash
from outreach.vocabulary import Channel
from services.campaign.delivery.changes import QUERIES

#: How somebody opted out, as it is stored; what a newer sender may say besides becomes `provider`.
SOURCES: Final = frozenset({"reply", "link", "provider", "spam_report"})
_OTHER_SOURCE: Final = "provider"
_CHANNELS: Final = frozenset(int(channel) for channel in Channel)
_ACTIONS: Final = frozenset({delivery_pb2.OPT_OUT_ACTION_ADD, delivery_pb2.OPT_OUT_ACTION_REMOVE})
_NUMBER_MAX: Final = 2**31 - 1
#: A longer recipient is kept by its hash only.
_RECIPIENT_CHARACTERS_MAX: Final = 320


def opt_out_fault(opt_out: delivery_pb2.OptOut) -> str | None:
    """Why it could not be stored; None: it can. That its ids are UUIDs is for the caller to see to."""
    if opt_out.channel not in _CHANNELS:
        return "an opt-out is of a channel"
    if opt_out.action not in _ACTIONS:
        return "an opt-out says whether it is one, or an opt-in"
    ways = [bool(opt_out.recipient), bool(opt_out.recipient_hash), bool(opt_out.campaign_id)]
    if sum(ways) != 1:
        return "an opt-out names its recipient in one way"
    if opt_out.recipient_hash and len(opt_out.recipient_hash) != RECIPIENT_HASH_BYTES:
        return f"a recipient's hash has {RECIPIENT_HASH_BYTES} bytes"
    if opt_out.campaign_id and not 1 <= opt_out.number <= _NUMBER_MAX:
        return "an opt-out of a message has its number"
    try:
        opt_out.time.ToDatetime()
    except (ValueError, OverflowError):
        return "an opt-out's time can't be one"
    return None


async def store_opt_outs(
    connection: Any, opt_outs: Sequence[delivery_pb2.OptOut], *, recipient_key: bytes
) -> None:
    """Store them; those of an organisation or a message that is gone are left out."""
    await connection.execute(
        QUERIES["opt_out"],
        [UUID(opt_out.organisation_id) for opt_out in opt_outs],
        [int(opt_out.channel) for opt_out in opt_outs],
        [_hash(opt_out, recipient_key) for opt_out in opt_outs],
        [UUID(opt_out.campaign_id) if opt_out.campaign_id else None for opt_out in opt_outs],
        [opt_out.number or None for opt_out in opt_outs],
        [opt_out.action == delivery_pb2.OPT_OUT_ACTION_ADD for opt_out in opt_outs],
        [opt_out.source if opt_out.source in SOURCES else _OTHER_SOURCE for opt_out in opt_outs],
        [opt_out.time.ToDatetime(tzinfo=UTC) for opt_out in opt_outs],
        [_recipient(opt_out) for opt_out in opt_outs],
    )


def _hash(opt_out: delivery_pb2.OptOut, recipient_key: bytes) -> bytes | None:
    """None: of the message that it names."""
    if opt_out.recipient:
        return recipient_hash(recipient_key, Channel(opt_out.channel), opt_out.recipient)
    return opt_out.recipient_hash or None


def _recipient(opt_out: delivery_pb2.OptOut) -> str | None:
    """As it can be stored: PostgreSQL takes no NUL in a text. None: not told."""
    told = opt_out.recipient
    if not told or len(told) > _RECIPIENT_CHARACTERS_MAX or "\0" in told:
        return None
    return told

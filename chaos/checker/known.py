"""I3: every accepted send is known to the database, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaos.checker.record import TAKEN, CampaignRecord
from chaos.checker.violation import Violation
from chaos.history import (
    Acceptance,
    ActionKind,
    Bounds,
    History,
    StoredAttempt,
    StoredMessage,
)
from outreach.vocabulary import FailureReason, MessageStatus

_UNSENT = frozenset({MessageStatus.WAITING, MessageStatus.QUEUED, MessageStatus.CANCELLED})


def check_known(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I3: what the provider has taken the database knows, and says of nothing else that it was taken."""
    deleted = {a.campaign_id for a in history.actions if a.kind is ActionKind.DELETE}
    for acceptance in history.acceptances:
        if not acceptance.token_valid:
            text = f"accepted with no attempt of ours: {acceptance.provider_message_id}"
            yield Violation("I3", text)
        elif acceptance.campaign_id not in records and acceptance.campaign_id not in deleted:
            text = f"accepted for no campaign: {acceptance.provider_message_id}"
            yield Violation("I3", text, acceptance.campaign_id)
    for record in records.values():
        for acceptance in record.acceptances:
            wrong = _unknown(record, acceptance, history.bounds)
            if wrong:
                text = f"message {acceptance.number}, attempt {acceptance.attempt}: {wrong}"
                yield Violation("I3", text, acceptance.campaign_id)
    yield from _never_taken(history.bounds, records)


def _never_taken(bounds: Bounds, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    unsent_unconfirmed = 0
    for record in records.values():
        ends: list[StoredMessage | StoredAttempt] = [*record.messages.values()]
        ends += record.earlier.values()
        for end in ends:
            if record.accepted.get((end.number, end.attempt)):
                continue
            if end.failure_reason is FailureReason.UNCONFIRMED:
                unsent_unconfirmed += 1
            elif end.status in TAKEN or end.provider_message_id:
                text = (
                    f"message {end.number} is {end.status.name}, attempt {end.attempt}, "
                    "and the provider never took it"
                )
                yield Violation("I3", text, end.campaign_id)
    allowed = bounds.unsent_unconfirmed_max + bounds.refusals_lost_max
    if unsent_unconfirmed > allowed:
        text = f"{unsent_unconfirmed} attempts are UNCONFIRMED that the provider never took, {allowed} may be"
        yield Violation("I3", text)


def _unknown(record: CampaignRecord, acceptance: Acceptance, bounds: Bounds) -> str:
    """What is wrong with the database's view of an acceptance; empty: nothing."""
    attempt = (acceptance.number, acceptance.attempt)
    message = record.messages.get(acceptance.number)
    if message is None:
        return "accepted, and there is no such message"
    if acceptance.channel is not record.campaign.channel:
        return f"accepted on {acceptance.channel.name}"
    if message.recipient and message.recipient.casefold() != acceptance.recipient.casefold():
        return "accepted for somebody else"
    if attempt not in record.claims:
        return "accepted without a claim"
    if attempt in record.handed_back:
        # When it was sent again after that, this is told as a message sent twice.
        return "" if _sent_again(record, acceptance) else "accepted, and handed back as not sent"
    end = record.end_of(*attempt)
    if end is None or end.status in _UNSENT:
        return "accepted, and the database has no such attempt"
    return _unlike(record, acceptance, end, bounds)


def _unlike(
    record: CampaignRecord,
    acceptance: Acceptance,
    end: StoredMessage | StoredAttempt,
    bounds: Bounds,
) -> str:
    attempt = (acceptance.number, acceptance.attempt)
    known_id = end.provider_message_id
    if end.failure_reason is FailureReason.UNCONFIRMED:
        # An email that was taken and never heard of again ends so as well.
        may_be = attempt in record.taken or known_id or bounds.receipts_may_be_lost
        return "" if may_be else "accepted, and UNCONFIRMED"
    once = len(record.accepted[attempt]) == 1
    if known_id and once and not _same_id(known_id, acceptance.provider_message_id):
        return f"accepted as {acceptance.provider_message_id}, known as {known_id}"
    return ""


def _sent_again(record: CampaignRecord, acceptance: Acceptance) -> bool:
    number, run = acceptance.number, record.claims[acceptance.number, acceptance.attempt].run
    return any(
        attempt != acceptance.attempt
        and (number, attempt) in record.accepted
        and (claim := record.claims.get((number, attempt))) is not None
        and claim.run == run
        for attempt in range(1, record.messages[number].attempt + 1)
    )


def _same_id(one: str, other: str) -> bool:
    """SendGrid's answer has the id of the request only, with which that of each recipient begins."""
    return one.partition(".")[0] == other.partition(".")[0]

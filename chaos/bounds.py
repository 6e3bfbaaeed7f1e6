"""What a run allows, from its plan and what happened in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.faults import Fault
from chaos.history import Bounds, FaultDone, History
from chaos.plan import Plan
from chaos.record.lag import Lag
from outreach.vocabulary import Channel, MessageStatus

#: Of a service; measured: 110 MB at most.
RSS_BYTES_MAX = 250_000_000
#: Stored while nobody commits them: all callbacks of a message and their doubles, and a job now and then.
WEBHOOKS_A_MESSAGE_MAX = 16
#: A commit's time is that of its transaction's beginning.
_COMMIT_SECONDS_MAX = 1.0
#: Answers of the provider to requests of which it has taken nothing, and that leave that open.
_UNANSWERED = ("http_500_before_accept", "dropped_before_accept", "unavailable")
_UNANSWERED_EMAIL = ("http_500_before_accept", "drop_before_accept", "unavailable")


def bounds_of(
    plan: Plan,
    history: History,
    injected: Sequence[tuple[Fault, FaultDone]],
    sms_totals: Mapping[str, Any],
    email_totals: Mapping[str, Any],
    lag: Lag,
) -> Bounds:
    """The bounds of a run.

    A message may be UNCONFIRMED though the provider took none when a fault hit its call, or that
    call's answer; or when the provider itself answered with a fault before it took it.

    Args:
        plan: of the run.
        history: with what the database holds.
        injected: the faults.
        sms_totals: of the provider's ledger.
        email_totals: of that of emails.
        lag: of the machine, as measured.
    """
    largest = largest_claim(history)
    hit = sum(
        min(
            fault.unsent_max * (largest if _hits(done, Channel.EMAIL) else 1),
            in_flight(history, done),
        )
        for fault, done in injected
        if fault.unsent_max
    )
    unanswered = unanswered_calls(sms_totals, email_totals)
    by_provider = unanswered[Channel.SMS] + largest * unanswered[Channel.EMAIL]
    return Bounds(
        send_window_seconds=plan.send_window_seconds,
        sms_request_seconds=plan.sms_request_seconds,
        email_request_seconds=plan.email_request_seconds,
        hold_seconds=plan.hold_seconds,
        lag_seconds=lag.seconds_max([done for fault, done in injected if fault.hold_seconds]),
        unsent_unconfirmed_max=hit + by_provider,
        receipts_may_be_lost=any(fault.receipts_lost for fault, _ in injected),
        rss_bytes_max=dict.fromkeys(plan.topology.services, RSS_BYTES_MAX),
        jetstream_messages_max=WEBHOOKS_A_MESSAGE_MAX * sum(one.messages for one in plan.campaigns),
    )


def unanswered_calls(
    sms_totals: Mapping[str, Any], email_totals: Mapping[str, Any]
) -> dict[Channel, int]:
    """How many calls the provider took nothing of, with an answer that does not say so, by its ledger's totals."""
    refused = email_totals["requests_refused"]
    return {
        Channel.SMS: sum(int(sms_totals.get(name, 0)) for name in _UNANSWERED),
        Channel.EMAIL: sum(int(refused.get(name, 0)) for name in _UNANSWERED_EMAIL),
    }


def in_flight(history: History, fault: FaultDone) -> int:
    """Messages that were SENDING when a fault began, or came to be so until it was over.

    Only these can have been in a call that it hit. By its target they are of one channel, or of both.
    """
    begun = fault.begun_time - _COMMIT_SECONDS_MAX
    campaigns = {one.campaign_id for one in history.campaigns if _hits(fault, one.channel)}
    hit: set[tuple[str, int]] = set()
    for change in history.changes:
        if change.campaign_id not in campaigns or change.commit_time > fault.ended_time:
            continue
        for message in change.messages:
            if message.status is MessageStatus.SENDING:
                hit.add((change.campaign_id, message.number))
            elif change.commit_time < begun:
                hit.discard((change.campaign_id, message.number))
    return len(hit)


def _hits(fault: FaultDone, channel: Channel) -> bool:
    other = Channel.EMAIL if channel is Channel.SMS else Channel.SMS
    return f"sender-{other.name.lower()}" not in fault.target


def largest_claim(history: History) -> int:
    """Messages of the largest request to the provider, at most: of the largest claim of emails."""
    emails = {one.campaign_id for one in history.campaigns if one.channel is Channel.EMAIL}
    claims = (
        sum(message.status is MessageStatus.SENDING for message in change.messages)
        for change in history.changes
        if change.campaign_id in emails
    )
    return max(claims, default=1)

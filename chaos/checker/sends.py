"""I2, I7, I10: nothing is sent twice, nothing after a stop, nothing to who has opted out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from chaos.checker.record import CampaignRecord, Run, Step
from chaos.checker.violation import Violation
from chaos.history import (
    ActionKind,
    Bounds,
    History,
    OptedOut,
)
from outreach.vocabulary import Channel, FailureReason, MessageStatus


def check_once(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I2: at most one accepted send for each attempt, and for each message and run."""
    tokens = Counter(
        (a.campaign_id, a.number, a.attempt) for a in history.acceptances if a.token_valid
    )
    for (campaign_id, number, attempt), times in tokens.items():
        if times > 1:
            text = f"message {number}, attempt {attempt}, was accepted {times} times"
            yield Violation("I2", text, campaign_id)
    forced = {a.campaign_id for a in history.actions if a.kind is ActionKind.RETRY and a.forced}
    for record in records.values():
        yield from _once_a_run(record)
        if record.campaign.campaign_id not in forced:
            yield from _retried_in_doubt(record)
    yield from _deleted_once(history, records)


def _once_a_run(record: CampaignRecord) -> Iterator[Violation]:
    campaign_id = record.campaign.campaign_id
    attempts: dict[tuple[int, int], list[int]] = defaultdict(list)
    recipients: Counter[tuple[int, str]] = Counter()
    for (number, attempt), acceptances in record.accepted.items():
        if (number, attempt) in record.claims:
            run = record.claims[number, attempt].run
            attempts[number, run].append(attempt)
            recipients[run, acceptances[0].recipient.casefold()] += 1
    for (number, run), accepted in attempts.items():
        if len(accepted) > 1:
            text = f"message {number} was accepted in run {run} by attempts {sorted(accepted)}"
            yield Violation("I2", text, campaign_id)
    messages = Counter(message.recipient.casefold() for message in record.messages.values())
    for (run, recipient), times in recipients.items():
        if times > messages[recipient] > 0:
            text = f"{recipient} was accepted {times} times in run {run}"
            yield Violation("I2", text, campaign_id)


def _retried_in_doubt(record: CampaignRecord) -> Iterator[Violation]:
    """What may have arrived is sent again only for those who force it."""
    for step in record.steps:
        if (
            step.after.status is MessageStatus.QUEUED
            and step.before.failure_reason is FailureReason.UNCONFIRMED
        ):
            text = f"message {step.after.number} was UNCONFIRMED, and is queued again in run {step.run}"
            yield Violation("I2", text, record.campaign.campaign_id)


def _deleted_once(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """Nothing is left of a deleted campaign but its acceptances: without a retry it had one run."""
    retried = {a.campaign_id for a in history.actions if a.kind is ActionKind.RETRY}
    messages = Counter(
        (acceptance.campaign_id, acceptance.number)
        for acceptance in {
            (a.campaign_id, a.number, a.attempt): a for a in history.acceptances if a.token_valid
        }.values()
        if acceptance.campaign_id not in records and acceptance.campaign_id not in retried
    )
    for (campaign_id, number), times in messages.items():
        if times > 1:
            text = f"message {number} was accepted by {times} attempts in one run"
            yield Violation("I2", text, campaign_id)


def check_stops(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I7: nothing is claimed once a stop is committed, and nothing is begun past its claim's window.

    So nothing is begun later than a stop and the window, whatever the stop's transaction waited for.
    """
    for record in records.values():
        allowed = _allowed_seconds(history.bounds, record.campaign.channel)
        for run in record.runs:
            yield from _claimed_after_stop(record, run)
        for acceptance in record.acceptances:
            claim = record.claims.get((acceptance.number, acceptance.attempt))
            if claim is None:
                continue
            late = acceptance.arrived_time - claim.commit_time
            if late > allowed:
                text = (
                    f"message {acceptance.number} was accepted {late:.2f} s after its claim, "
                    f"{allowed:.2f} s are allowed"
                )
                yield Violation("I7", text, acceptance.campaign_id)
    for action in history.actions:
        known = records.get(action.campaign_id)
        stopped = action.kind is ActionKind.STOP and action.ok
        if stopped and known is not None and all(run.stop is None for run in known.runs):
            yield Violation("I7", "a stop was answered, and never committed", action.campaign_id)


def _claimed_after_stop(record: CampaignRecord, run: Run) -> Iterator[Violation]:
    if run.stop is None:
        return
    for change in run.changes:
        claimed = sum(m.status is MessageStatus.SENDING for m in change.messages)
        if claimed and change.revision > run.stop.revision:
            text = (
                f"{claimed} messages were claimed at revision {change.revision}, "
                f"run {run.number} was stopped at {run.stop.revision}"
            )
            yield Violation("I7", text, record.campaign.campaign_id)


def check_opt_outs(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I10: nothing is claimed for who has opted out, and nothing sent past the window of earlier claims."""
    opt_outs: dict[tuple[Channel, str], list[OptedOut]] = defaultdict(list)
    for opt_out in history.opt_outs:
        opt_outs[opt_out.channel, opt_out.recipient.casefold()].append(opt_out)
    if not opt_outs:
        return
    for acceptance in history.acceptances:
        allowed = _allowed_seconds(history.bounds, acceptance.channel)
        for opt_out in opt_outs.get((acceptance.channel, acceptance.recipient.casefold()), ()):
            if _holds(opt_out, acceptance.arrived_time, allowed):
                late = acceptance.arrived_time - opt_out.committed_time
                text = f"message {acceptance.number} was accepted {late:.2f} s after its recipient had opted out"
                yield Violation("I10", text, acceptance.campaign_id)
    for record in records.values():
        for step in record.claims.values():
            yield from _claimed_opted_out(record, step, opt_outs)


def _claimed_opted_out(
    record: CampaignRecord,
    step: Step,
    opt_outs: Mapping[tuple[Channel, str], list[OptedOut]],
) -> Iterator[Violation]:
    message = record.messages.get(step.after.number)
    if message is None:
        return
    for opt_out in opt_outs.get((record.campaign.channel, message.recipient.casefold()), ()):
        # A claim's time is that of its transaction's beginning: what was committed before it sees.
        if _holds(opt_out, step.commit_time, 0.0):
            text = (
                f"message {message.number} was claimed, attempt {step.after.attempt}, "
                "after its recipient had opted out"
            )
            yield Violation("I10", text, record.campaign.campaign_id)


def _holds(opt_out: OptedOut, time: float, allowed_seconds: float) -> bool:
    ended = opt_out.ended_time is not None and time >= opt_out.ended_time
    return time > opt_out.committed_time + allowed_seconds and not ended


def _allowed_seconds(bounds: Bounds, channel: Channel) -> float:
    """From a claim's beginning until what it permitted has arrived."""
    is_email = channel is Channel.EMAIL
    request_seconds = bounds.email_request_seconds if is_email else bounds.sms_request_seconds
    held_seconds = bounds.hold_seconds + bounds.lag_seconds
    return bounds.send_window_seconds + request_seconds + held_seconds

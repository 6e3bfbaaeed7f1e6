"""I1, I5, I9: messages and campaigns go the ways of the lifecycle's tables, forward, and to their end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from chaos.checker.record import CampaignRecord, Step, counts_of
from chaos.checker.violation import Violation
from chaos.history import History, MessageChange, Watched
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus
from services.campaign.domain.lifecycle import (
    FINAL,
    MESSAGE_EDGES,
    Cause,
    campaign_status,
)

_Move = tuple[MessageStatus, MessageStatus]

#: By channel and move: the reasons that a FAILED source may have; None among them: any.
_PERMITTED: Final[Mapping[tuple[Channel, _Move], frozenset[FailureReason | None]]] = {
    (channel, (edge.source, edge.target)): frozenset(
        other.source_reason
        for other in MESSAGE_EDGES
        if (other.source, other.target) == (edge.source, edge.target)
    )
    for edge in MESSAGE_EDGES
    for channel in edge.channels
}

_ENDED = frozenset(
    {CampaignStatus.COMPLETE, CampaignStatus.COMPLETE_WITH_ERRORS, CampaignStatus.FAILED}
)
_NEVER_RUN = frozenset({CampaignStatus.CREATED, CampaignStatus.READY})
#: Both times are of one transaction; what is left is rounding.
_SAME_TIME_SECONDS: Final = 0.001


def _onward() -> dict[MessageStatus, frozenset[MessageStatus]]:
    """What may come of a status with no other claim between, by any number of moves."""
    onward: dict[MessageStatus, set[MessageStatus]] = {status: {status} for status in MessageStatus}
    for _ in MessageStatus:
        for edge in MESSAGE_EDGES:
            if edge.cause is not Cause.CLAIM:
                onward[edge.source] |= onward[edge.target]
    return {status: frozenset(targets) for status, targets in onward.items()}


_ONWARD: Final = _onward()


def check_ends(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I1: every message of a campaign that was run is final, and the run that was promised was made."""
    for record in records.values():
        campaign = record.campaign
        if record.messages.keys() != set(range(1, campaign.total + 1)):
            text = f"{len(record.messages)} messages, not those numbered 1 to {campaign.total}"
            yield Violation("I1", text, campaign.campaign_id)
        for message in record.messages.values() if campaign.run else ():
            if message.status not in FINAL:
                text = f"message {message.number} ends {message.status.name}"
                yield Violation("I1", text, campaign.campaign_id)
    for action in history.actions:
        known = records.get(action.campaign_id)
        if action.ok and action.run is not None and known and known.campaign.run < action.run:
            text = (
                f"{action.kind} was answered with run {action.run}, "
                f"the last one is {known.campaign.run}"
            )
            yield Violation("I1", text, action.campaign_id)


def check_steps(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I5: a message's status moves by the lifecycle's edges only, and its attempts grow."""
    for record in records.values():
        for step in record.steps:
            wrong = _wrong_step(record.campaign.channel, step)
            if wrong:
                text = f"message {step.after.number}, revision {step.after.revision}: {wrong}"
                yield Violation("I5", text, record.campaign.campaign_id)
    told: dict[tuple[str, str], dict[int, MessageChange]] = defaultdict(dict)
    for watched in history.watched:
        latest = told[watched.watcher, watched.campaign_id]
        yield from _fallen(watched, latest)


def _wrong_step(channel: Channel, step: Step) -> str:
    before, after = step.before, step.after
    attempt = before.attempt + 1 if step.is_claim else before.attempt
    if after.attempt != attempt:
        return f"attempt {after.attempt} after {before.attempt}"
    only_id = before.status is after.status is MessageStatus.FAILED
    if only_id and before.failure_reason is after.failure_reason:
        return ""  # the provider's id came to be known, and nothing else
    reasons = _PERMITTED.get((channel, (before.status, after.status)), frozenset())
    if None in reasons or before.failure_reason in reasons:
        return ""
    return f"{_spelled(before)} became {_spelled(after)}"


def _fallen(watched: Watched, latest: dict[int, MessageChange]) -> Iterator[Violation]:
    """What a watcher was told goes back behind what it was told before; `latest` follows."""
    for message in watched.messages:
        before = latest.get(message.number)
        latest[message.number] = message
        if before is None:
            continue
        same = message.attempt == before.attempt
        if message.attempt < before.attempt or (
            same and message.status not in _ONWARD[before.status]
        ):
            text = (
                f"{watched.watcher} was told that message {message.number} is "
                f"{_spelled(message)}, attempt {message.attempt}, after "
                f"{_spelled(before)}, attempt {before.attempt}"
            )
            yield Violation("I5", text, watched.campaign_id)


def check_completion(
    history: History, records: Mapping[str, CampaignRecord]
) -> Iterator[Violation]:
    """I9: a campaign's status follows from its messages, and each run ends once, when all of them are final."""
    for record in records.values():
        yield from _logged_completion(record)
        yield from _stored_completion(record)
    for seen in history.seen:
        if not _follows(seen.status, seen.counts):
            text = f"{seen.source} told {seen.status.name} with {_open(seen.counts)}"
            yield Violation("I9", text, seen.campaign_id)


def _logged_completion(record: CampaignRecord) -> Iterator[Violation]:
    campaign = record.campaign
    for run in record.runs:
        began, *others = run.changes
        failed = False
        before = began.status
        for change in others:
            # A retry's run begins a commit before its messages are queued.
            again = change.status is CampaignStatus.IN_PROGRESS is not before
            failed = failed or change.status is CampaignStatus.FAILED
            if again or (failed and change.status is not CampaignStatus.FAILED):
                text = (
                    f"revision {change.revision} is {change.status.name} after {before.name}, "
                    f"in one run"
                )
                yield Violation("I9", text, campaign.campaign_id)
            elif change.messages and not _follows(change.status, change.counts):
                text = (
                    f"revision {change.revision} is {change.status.name} with "
                    f"{_open(change.counts)}"
                )
                yield Violation("I9", text, campaign.campaign_id)
            before = change.status


def _stored_completion(record: CampaignRecord) -> Iterator[Violation]:
    campaign = record.campaign
    if len(record.runs) != campaign.run:
        text = f"{len(record.runs)} runs began, the last one is numbered {campaign.run}"
        yield Violation("I9", text, campaign.campaign_id)
    if not _follows(campaign.status, campaign.counts):
        text = f"the row is {campaign.status.name} with {_open(campaign.counts)}"
        yield Violation("I9", text, campaign.campaign_id)
    if not record.runs or not _is_end(campaign.status, campaign.counts):
        return
    ends = (c.commit_time for c in record.runs[-1].changes if _is_end(c.status, c.counts))
    first = next(ends, None)
    if campaign.end_time is None or first is None:
        yield Violation("I9", f"{campaign.status.name} without an end", campaign.campaign_id)
    elif abs(campaign.end_time - first) > _SAME_TIME_SECONDS:
        text = f"ended at {first:.3f}, and again at {campaign.end_time:.3f}"
        yield Violation("I9", text, campaign.campaign_id)


def _is_end(status: CampaignStatus, counts: Mapping[MessageStatus, int]) -> bool:
    return status in _ENDED and not counts.get(MessageStatus.RETRYING)


def _follows(status: CampaignStatus, counts: Mapping[MessageStatus, int]) -> bool:
    """Whether it is the status of these counts. Whether a run met a critical error they don't tell."""
    if status in _NEVER_RUN:
        return not any(counts.get(status) for status in MessageStatus if _is_of_run(status))
    return status in {
        campaign_status(counts_of(counts), run=1, template_valid=True, critical_failure=critical)
        for critical in (False, True)
    }


def _is_of_run(status: MessageStatus) -> bool:
    # The person of a message may have been erased before the first run.
    return status not in (MessageStatus.WAITING, MessageStatus.OPTED_OUT)


def _open(counts: Mapping[MessageStatus, int]) -> str:
    return ", ".join(f"{n} {status.name}" for status, n in sorted(counts.items()) if n) or "nothing"


def _spelled(change: MessageChange) -> str:
    reason = f": {change.failure_reason.name}" if change.failure_reason else ""
    return f"{change.status.name}{reason}"

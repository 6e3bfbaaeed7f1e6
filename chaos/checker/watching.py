"""I8: a watcher is told each change once, in order, over any reconnects, and ends with what the database has."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from chaos.checker.record import CampaignRecord
from chaos.checker.violation import Violation
from chaos.history import (
    History,
    MessageChange,
    StoredCampaign,
    StoredChange,
    StoredMessage,
    Told,
    Watched,
)
from outreach.vocabulary import CampaignStatus, FailureReason, MessageStatus

_NEVER_RUN = frozenset({CampaignStatus.CREATED, CampaignStatus.READY})


def check_watching(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I8, and that the change log, from which all watchers are told, is whole and ends as the database does."""
    for record in records.values():
        yield from _broken_log(record)
    told: dict[tuple[str, str], list[Watched]] = defaultdict(list)
    for watched in history.watched:
        told[watched.watcher, watched.campaign_id].append(watched)
    for (watcher, campaign_id), responses in told.items():
        wrong = [*_wrong_order(responses)]
        if campaign_id in records:
            wrong += _unlike_log(responses, records[campaign_id])
        for text in wrong:
            yield Violation("I8", f"{watcher} {text}", campaign_id)


def _broken_log(record: CampaignRecord) -> Iterator[Violation]:
    campaign = record.campaign
    revisions = [change.revision for change in record.changes]
    if revisions != [*range(1, campaign.revision + 1)]:
        text = f"the log has {len(revisions)} revisions, not those from 1 to {campaign.revision}"
        yield Violation("I8", text, campaign.campaign_id)
    if campaign.run and record.changes:
        last = record.changes[-1]
        if last.status is not campaign.status or _present(last) != _present(campaign):
            text = "the log ends with other counts or another status than the campaign's row"
            yield Violation("I8", text, campaign.campaign_id)
    latest = {step.after.number: step.after for step in record.steps}
    for number, change in latest.items():
        message = record.messages.get(number)
        if message is not None and _state(message) != _state(change):
            text = (
                f"message {number} is {message.status.name}, attempt {message.attempt}; the log "
                f"ends with {change.status.name}, attempt {change.attempt}"
            )
            yield Violation("I8", text, campaign.campaign_id)


def _wrong_order(responses: Sequence[Watched]) -> Iterator[str]:
    revision: int | None = None
    for response in responses:
        if response.told is Told.LEFT:
            continue
        if revision is None:
            if response.told is not Told.SNAPSHOT:
                yield f"began with {response.told}, not with a snapshot"
        elif response.told is Told.SNAPSHOT:
            yield f"was told another snapshot after revision {revision}"
        elif response.told is Told.CHANGES and response.revision <= revision:
            yield f"was told revision {response.revision} after {revision}"
        elif response.told is Told.HEARTBEAT and response.revision != revision:
            yield f"had a heartbeat of revision {response.revision} after {revision}"
        revision = response.revision


def _unlike_log(responses: Sequence[Watched], record: CampaignRecord) -> Iterator[str]:
    changes = record.changes
    revisions = [change.revision for change in changes]
    position: int | None = None
    for response in responses:
        if response.told in (Told.HEARTBEAT, Told.LEFT):
            continue
        through = bisect_right(revisions, response.revision)
        at = (
            changes[through - 1]
            if through and revisions[through - 1] == response.revision
            else None
        )
        if response.told is Told.CHANGES:
            since = through if position is None else bisect_right(revisions, position)
            logged = [m for change in changes[since:through] for m in change.messages]
            if at is None:
                yield f"was told revision {response.revision}, which was never committed"
            if position is not None and [*response.messages] != logged:
                yield _difference(response, position, logged)
        if at is not None and _differs(response, at):
            yield f"was told other counts or another status than revision {response.revision} has"
        position = max(response.revision, position or 0)
    left = responses[-1].told is Told.LEFT
    if not left and position is not None and position < record.campaign.revision:
        yield f"ended at revision {position}, the last one is {record.campaign.revision}"


def _difference(response: Watched, position: int, logged: list[MessageChange]) -> str:
    missing = len(set(logged) - set(response.messages))
    return (
        f"was told {len(response.messages)} changes from revision {position} to {response.revision}, "
        f"the log has {len(logged)}; {missing} of them were not told"
    )


def _differs(response: Watched, change: StoredChange) -> bool:
    # A draft's row changes without a revision too.
    if response.status in _NEVER_RUN:
        return False
    return (response.status is not None and response.status is not change.status) or (
        response.counts is not None
        and {s: n for s, n in response.counts.items() if n} != _present(change)
    )


def _present(counted: StoredChange | StoredCampaign) -> dict[MessageStatus, int]:
    return {status: number for status, number in counted.counts.items() if number}


def _state(
    message: StoredMessage | MessageChange,
) -> tuple[MessageStatus, FailureReason | None, int]:
    return message.status, message.failure_reason, message.attempt

"""I4: counts are those of the messages, and add up wherever they are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from chaos.checker.record import CampaignRecord, counts_of
from chaos.checker.violation import Violation
from chaos.history import Exported, History, Watched
from outreach.vocabulary import CampaignStatus, MessageStatus

_NEVER_RUN = (CampaignStatus.CREATED, CampaignStatus.READY)


def check_counts(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I4: counts are those of the messages, wherever they are told."""
    for record in records.values():
        yield from _stored_counts(record)
        yield from _logged_counts(record)
    for seen in history.seen:
        if not _add_up(seen.counts, seen.total):
            text = f"{seen.source} told counts that do not make {seen.total}: {_told(seen.counts)}"
            yield Violation("I4", text, seen.campaign_id)
    for watched in history.watched:
        yield from _watched_counts(watched, records.get(watched.campaign_id))
    for export in history.exports:
        wrong = _wrong_export(export, records.get(export.campaign_id))
        if wrong:
            yield Violation("I4", f"an export {wrong}", export.campaign_id)


def _watched_counts(watched: Watched, record: CampaignRecord | None) -> Iterator[Violation]:
    total = watched.total
    if total is None and record is not None:
        total = record.campaign.total
    if watched.counts is None or total is None or _add_up(watched.counts, total):
        return
    text = (
        f"{watched.watcher} was told counts at revision {watched.revision} that do not make "
        f"{total}: {_told(watched.counts)}"
    )
    yield Violation("I4", text, watched.campaign_id)


def _stored_counts(record: CampaignRecord) -> Iterator[Violation]:
    campaign = record.campaign
    if not _add_up(campaign.counts, campaign.total):
        text = f"the row's counts do not add up to {campaign.total}: {_told(campaign.counts)}"
        yield Violation("I4", text, campaign.campaign_id)
    statuses = Counter(message.status for message in record.messages.values())
    if campaign.run == 0:  # stored as queued from the import on, told as waiting
        statuses[MessageStatus.WAITING] += statuses.pop(MessageStatus.QUEUED, 0)
    if _present(statuses) != _present(campaign.counts):
        text = f"the row's counts are {_told(campaign.counts)}, the messages' {_told(statuses)}"
        yield Violation("I4", text, campaign.campaign_id)


def _logged_counts(record: CampaignRecord) -> Iterator[Violation]:
    """Each commit's counts are those before it and its own moves. Stops at the first that are not."""
    campaign = record.campaign
    counts = Counter({MessageStatus.WAITING: campaign.total})
    steps = iter(record.steps)
    for change in record.changes:
        if change.status not in _NEVER_RUN:  # a run queues all that wait, and does not list them
            counts[MessageStatus.QUEUED] += counts.pop(MessageStatus.WAITING, 0)
        for step in islice(steps, len(change.messages)):
            counts[step.before.status] -= 1
            counts[step.after.status] += 1
        imported = change.counts or change.status not in _NEVER_RUN
        if imported and _present(counts) != _present(change.counts):
            text = (
                f"revision {change.revision} has {_told(change.counts)}, "
                f"its messages are {_told(counts)}"
            )
            yield Violation("I4", text, campaign.campaign_id)
            return


def _wrong_export(export: Exported, record: CampaignRecord | None) -> str:
    rows = export.rows
    if not export.bytes_right:
        return "has another checksum than its bytes"
    if not rows == export.numbers_distinct == export.told_rows == sum(export.counts.values()):
        return (
            f"has {rows} rows, {export.numbers_distinct} numbers, {export.told_rows} told, "
            f"by status {_told(export.counts)}"
        )
    if record is None:
        return ""
    if rows != record.campaign.total:
        return f"has {rows} rows of {record.campaign.total} messages"
    if export.campaign_final and _present(export.counts) != _present(record.campaign.counts):
        return (
            f"of the final campaign has {_told(export.counts)}, not {_told(record.campaign.counts)}"
        )
    return ""


def _add_up(counts: Mapping[MessageStatus, int], total: int) -> bool:
    return sum(counts.values()) == total and min(counts_of(counts).as_list()) >= 0


def _present(counts: Mapping[MessageStatus, int]) -> dict[MessageStatus, int]:
    return {status: number for status, number in counts.items() if number}


def _told(counts: Mapping[MessageStatus, int]) -> str:
    return ", ".join(f"{n} {status.name}" for status, n in sorted(counts.items()) if n) or "none"

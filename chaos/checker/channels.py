"""I6: never two running campaigns on a channel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from chaos.checker.record import CampaignRecord, Run
from chaos.checker.violation import Violation
from chaos.history import ActionKind, CampaignSeen, History, StoredChange
from outreach.vocabulary import CampaignStatus, Channel, MessageStatus

#: Calls whose answer is one statement's view of all campaigns. What watches all of them is told each as it was last
#: looked at, so two of one snapshot need not have been so at the same time.
_AT_ONE_TIME = frozenset({"list"})


@dataclass(frozen=True, slots=True)
class _Held:
    """A time in which a campaign certainly held its channel."""

    campaign_id: str
    run: int
    begun: float
    ended: float


def check_channels(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I6, from the log, from the runs that were answered, and from what clients saw at one time."""
    by_channel: dict[Channel, list[_Held]] = defaultdict(list)
    answered = _answered(history)
    for record in records.values():
        for run in record.runs:
            time_held = _certainly_held(record, run, answered)
            if time_held is not None:
                by_channel[record.campaign.channel].append(time_held)
    for channel, held in by_channel.items():
        yield from _held_together(channel, sorted(held, key=lambda one: one.begun))
    yield from _begun_meanwhile(history, records, by_channel)
    yield from _seen_together(history)


def _answered(history: History) -> dict[tuple[str, int], float]:
    """By campaign and run: when it had certainly begun, as its caller knows."""
    return {
        (action.campaign_id, action.run): action.answered_time
        for action in history.actions
        if action.ok and action.run is not None and action.answered_time is not None
    }


def _certainly_held(
    record: CampaignRecord, run: Run, answered: Mapping[tuple[str, int], float]
) -> _Held | None:
    """The log's times are those at which transactions began: each was committed later.

    So a run was committed before the first transaction that came of it, a claim, began, and the
    channel was still held when the last one began that left the campaign in progress.
    """
    campaign_id = record.campaign.campaign_id
    in_progress = [c for c in run.changes if c.status is CampaignStatus.IN_PROGRESS]
    begun = [c.commit_time for c in in_progress if _has_claim(c)][:1]
    if (campaign_id, run.number) in answered:
        begun.append(answered[campaign_id, run.number])
    if not begun:
        return None
    ended = max(change.commit_time for change in in_progress)
    return _Held(campaign_id, run.number, min(begun), ended) if min(begun) < ended else None


def _has_claim(change: StoredChange) -> bool:
    return any(message.status is MessageStatus.SENDING for message in change.messages)


def _held_together(channel: Channel, held: list[_Held]) -> Iterator[Violation]:
    """`held`: in the order of their beginnings."""
    longest: _Held | None = None
    for one in held:
        if longest and one.campaign_id != longest.campaign_id and one.begun < longest.ended:
            text = (
                f"held {channel.name} from {one.begun:.3f}, which campaign {longest.campaign_id} "
                f"held until {longest.ended:.3f}"
            )
            yield Violation("I6", text, one.campaign_id)
        if longest is None or one.ended > longest.ended:
            longest = one


def _begun_meanwhile(
    history: History,
    records: Mapping[str, CampaignRecord],
    by_channel: Mapping[Channel, list[_Held]],
) -> Iterator[Violation]:
    """A run that was granted, from its call to its answer, while another campaign held the channel."""
    for action in history.actions:
        known = records.get(action.campaign_id)
        if (
            action.kind not in (ActionKind.RUN, ActionKind.RETRY)
            or not action.ok
            or action.answered_time is None
            or known is None
        ):
            continue
        for held in by_channel.get(known.campaign.channel, ()):
            if (
                held.campaign_id != action.campaign_id
                and held.begun < action.begun_time
                and action.answered_time < held.ended
            ):
                text = (
                    f"{action.kind} was granted while campaign {held.campaign_id} held the channel"
                )
                yield Violation("I6", text, action.campaign_id)


def _seen_together(history: History) -> Iterator[Violation]:
    def when(seen: CampaignSeen) -> tuple[str, float, Channel]:
        return seen.source, seen.time, seen.channel

    for seen in history.seen:
        in_progress = seen.status is CampaignStatus.IN_PROGRESS
        if seen.holds_channel is not None and seen.holds_channel is not in_progress:
            text = f"{seen.source} told {seen.status.name}, holds_channel: {seen.holds_channel}"
            yield Violation("I6", text, seen.campaign_id)
    of_one_time = sorted(
        (
            seen
            for seen in history.seen
            if seen.source in _AT_ONE_TIME and seen.status is CampaignStatus.IN_PROGRESS
        ),
        key=when,
    )
    for (source, time, channel), group in groupby(of_one_time, key=when):
        campaigns = sorted({seen.campaign_id for seen in group})
        if len(campaigns) > 1:
            text = f"{source} at {time:.3f} told more than one in progress on {channel.name}: "
            yield Violation("I6", text + ", ".join(campaigns), campaigns[0])

"""Breaks of I6 to I12: of campaigns, of watching, of who must not be sent to, and of bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chaos.history import (
    Acted,
    ActionKind,
    Forged,
    History,
    OptedOut,
    Sampled,
    Told,
)
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus
from tests.chaos.good_history import (
    DELETED,
    EMAIL,
    OTHER_SMS,
    REQUEST_SECONDS,
    SMS,
    WINDOW_SECONDS,
    Story,
    good_history,
)
from tests.chaos.history_breaks import accepted, alter, breaks

S = MessageStatus
R = FailureReason


@breaks("I6")
def another_campaign_runs_before_the_first_has_ended() -> History:
    story = Story()
    story.begin_first()
    story.second()
    story.stop_first()
    history = story.told()
    # Without what clients saw and did: the log alone tells it.
    history.seen.clear()
    history.actions.clear()
    return history


@breaks("I6")
def a_run_is_granted_while_another_campaign_runs() -> History:
    history = good_history()
    run, stop = (a for a in history.actions if a.campaign_id == SMS and a.run != 2)
    history.actions.append(
        Acted(
            kind=ActionKind.RUN,
            campaign_id=OTHER_SMS,
            begun_time=(run.answered_time or 0) + 0.1,
            answered_time=stop.begun_time,
            ok=True,
        )
    )
    return history


@breaks("I6")
def a_list_shows_two_in_progress_on_a_channel() -> History:
    history = good_history()
    first = next(s for s in history.seen if s.status is CampaignStatus.IN_PROGRESS)
    history.seen.append(replace(first, campaign_id=OTHER_SMS))
    return history


@breaks("I6")
def a_campaign_is_in_progress_and_holds_nothing() -> History:
    history = good_history()
    alter(history.seen, lambda s: s.status is CampaignStatus.IN_PROGRESS, holds_channel=False)
    return history


@breaks("I7")
def a_message_is_claimed_after_the_stop() -> History:
    story = Story()
    story.begin_first()
    story.sms.stop()
    story.sms.claim(4)
    story.sms.accept(4)
    story.sms.report(S.DELIVERED, 1, 2, 3, 4)
    story.sms.report(S.CANCELLED, 7, 8, 9, 10)
    story.sms.report(S.FAILED, 5, reason=R.UNCONFIRMED)
    return story.told()


@breaks("I7")
def a_message_is_sent_after_its_window() -> History:
    history = good_history()
    late = accepted(history, SMS, 3, 1).arrived_time + WINDOW_SECONDS + REQUEST_SECONDS + 0.1
    alter(history.acceptances, lambda a: a.number == 3, arrived_time=late)
    return history


@breaks("I7")
def a_stop_is_answered_and_nothing_stops() -> History:
    history = good_history()
    alter(history.actions, lambda a: a.kind is ActionKind.STOP, campaign_id=OTHER_SMS)
    return history


@breaks("I8")
def a_watcher_misses_a_change() -> History:
    history = good_history()
    told = next(w for w in history.watched if w.campaign_id == SMS and len(w.messages) > 1)
    alter(history.watched, lambda w: w is told, messages=told.messages[1:])
    return history


@breaks("I8")
def a_watcher_misses_a_commit() -> History:
    history = good_history()
    missed = [w for w in history.watched if w.campaign_id == EMAIL and w.messages][2]
    history.watched = [
        w for w in history.watched if (w.watcher, w.campaign_id, w.revision) != _place(missed)
    ]
    return history


def _place(watched: Any) -> tuple[str, str, int]:
    return watched.watcher, watched.campaign_id, watched.revision


@breaks("I8")
def a_watcher_is_told_twice() -> History:
    history = good_history()
    index = next(i for i, w in enumerate(history.watched) if w.messages)
    history.watched.insert(index, history.watched[index])
    return history


@breaks("I8")
def a_watcher_that_comes_back_is_given_another_snapshot() -> History:
    history = good_history()
    index = next(i for i, w in enumerate(history.watched) if w.messages)
    history.watched.insert(
        index + 1, replace(history.watched[index], told=Told.SNAPSHOT, messages=())
    )
    return history


@breaks("I8")
def a_watcher_is_told_other_counts_than_were_committed() -> History:
    history = good_history()
    told = next(w for w in history.watched if w.campaign_id == SMS and w.told is Told.CHANGES)
    alter(history.watched, lambda w: w is told, counts={S.QUEUED: 9, S.SENDING: 1})
    return history


@breaks("I8")
def a_watcher_is_not_told_of_the_end() -> History:
    history = good_history()
    last = max(w.revision for w in history.watched if w.campaign_id == EMAIL)
    history.watched = [
        w for w in history.watched if not (w.campaign_id == EMAIL and w.revision == last)
    ]
    return history


@breaks("I8")
def a_message_ends_otherwise_than_the_log() -> History:
    history = good_history()
    alter(
        history.messages,
        lambda m: m.campaign_id == OTHER_SMS and m.status is S.FAILED,
        failure_reason=R.BLOCKED_BY_CARRIER_OR_SERVER,
    )
    return history


@breaks("I9")
def a_campaign_is_complete_with_messages_open() -> History:
    history = good_history()
    alter(
        history.seen,
        lambda s: s.status is CampaignStatus.IN_PROGRESS,
        status=CampaignStatus.COMPLETE,
        holds_channel=False,
    )
    return history


@breaks("I9")
def a_run_completes_twice() -> History:
    story = Story()
    story.begin_first()
    early = story.sms.changes[2]
    story.sms.changes[2] = replace(early, status=CampaignStatus.COMPLETE)
    story.stop_first()
    return story.told()


@breaks("I9")
def a_late_receipt_ends_the_campaign_again() -> History:
    story = Story().to_the_end()
    assert story.sms.end_time is not None
    story.sms.end_time += 5
    return story.told()


@breaks("I9")
def a_campaign_has_no_end() -> History:
    story = Story().to_the_end()
    story.email.end_time = None
    return story.told()


@breaks("I9")
def a_run_is_counted_that_never_began() -> History:
    history = good_history()
    alter(history.campaigns, lambda c: c.campaign_id == EMAIL, run=2)
    return history


@breaks("I10")
def a_recipient_who_had_opted_out_is_sent_to() -> History:
    history = good_history()
    history.opt_outs.append(
        OptedOut(
            channel=Channel.SMS,
            recipient=accepted(history, SMS, 3, 1).recipient,
            source="reply",
            committed_time=900.0,
        )
    )
    return history


@breaks("I10")
def a_deleted_campaign_had_sent_to_who_had_opted_out() -> History:
    history = good_history()
    history.opt_outs.append(
        OptedOut(
            channel=Channel.SMS,
            recipient=accepted(history, DELETED, 1, 1).recipient,
            source="operator",
            committed_time=accepted(history, DELETED, 1, 1).arrived_time
            - (WINDOW_SECONDS + REQUEST_SECONDS + 0.1),
        )
    )
    return history


@breaks("I11")
def a_forged_webhook_is_answered_as_a_genuine_one() -> History:
    history = good_history()
    alter(history.forged, lambda f: f.must_refuse, http_status=204)
    return history


@breaks("I11")
def the_mark_of_a_forged_webhook_is_stored() -> History:
    history = good_history()
    alter(history.messages, lambda m: m.number == 9, provider_code="SMforged")
    return history


@breaks("I12")
def a_service_grows() -> History:
    history = good_history()
    history.samples.append(Sampled(source="campaign-1", time=2_000.0, rss_bytes=101))
    return history


@breaks("I12")
def a_queue_grows() -> History:
    history = good_history()
    history.samples.append(Sampled(source="nats", time=2_000.0, jetstream_messages=51))
    return history


def believed_forgery() -> History:
    """A message that was never sent is DELIVERED because a forged webhook said so: I3 and I11."""
    history = good_history()
    lost = accepted(history, SMS, 3, 1)
    history.acceptances.remove(lost)
    history.forged.append(
        Forged(
            kind="unknown token",
            channel=Channel.SMS,
            time=lost.arrived_time,
            http_status=None,
            must_refuse=True,
            campaign_id=SMS,
            number=3,
            claimed_status=S.DELIVERED,
        )
    )
    return history

"""Breaks of I1 to I5: of messages, of what is known of them, and of their counts."""

from __future__ import annotations

from dataclasses import replace

from chaos.history import (
    Acted,
    ActionKind,
    History,
    MessageChange,
    Told,
)
from outreach.vocabulary import FailureReason, MessageStatus
from tests.chaos.good_history import (
    DELETED,
    EMAIL,
    OTHER_SMS,
    SMS,
    Story,
    good_history,
)
from tests.chaos.history_breaks import accepted, alter, breaks

S = MessageStatus
R = FailureReason


@breaks("I1")
def a_message_is_never_settled() -> History:
    story = Story()
    story.begin_first()
    story.sms.stop()
    story.sms.report(S.CANCELLED, 4, 7, 8, 9, 10)
    story.sms.report(S.DELIVERED, 1, 2, 3)
    return story.told()


@breaks("I1")
def a_message_is_missing() -> History:
    history = good_history()

    def renumbered(messages: tuple[MessageChange, ...]) -> tuple[MessageChange, ...]:
        return tuple(replace(m, number=9) if m.number == 4 else m for m in messages)

    alter(history.messages, lambda m: m.campaign_id == OTHER_SMS and m.number == 4, number=9)
    history.changes = [
        replace(c, messages=renumbered(c.messages)) if c.campaign_id == OTHER_SMS else c
        for c in history.changes
    ]
    history.watched = [
        replace(w, messages=renumbered(w.messages)) if w.campaign_id == OTHER_SMS else w
        for w in history.watched
    ]
    return history


@breaks("I1")
def a_run_that_was_answered_is_lost() -> History:
    history = good_history()
    history.actions.append(
        Acted(
            kind=ActionKind.RETRY,
            campaign_id=OTHER_SMS,
            begun_time=5_000.0,
            answered_time=5_001.0,
            ok=True,
            run=2,
        )
    )
    return history


@breaks("I2")
def an_attempt_is_accepted_twice() -> History:
    history = good_history()
    history.acceptances.append(replace(accepted(history, SMS, 1, 1), provider_message_id="SMagain"))
    return history


@breaks("I2")
def a_message_that_was_handed_back_had_been_accepted() -> History:
    history = good_history()
    history.acceptances.append(replace(accepted(history, SMS, 4, 2), attempt=1))
    return history


@breaks("I2")
def an_unconfirmed_message_is_retried_and_nobody_forced_it() -> History:
    history = good_history()
    alter(history.actions, lambda a: a.kind is ActionKind.RETRY, forced=False)
    return history


@breaks("I2")
def a_message_of_a_deleted_campaign_is_accepted_twice() -> History:
    history = good_history()
    history.acceptances.append(replace(accepted(history, DELETED, 1, 1), attempt=2))
    return history


@breaks("I3")
def something_is_accepted_without_our_token() -> History:
    history = good_history()
    alter(history.acceptances, lambda a: a.campaign_id == DELETED, token_valid=False)
    return history


@breaks("I3")
def something_is_accepted_for_no_campaign() -> History:
    history = good_history()
    alter(history.acceptances, lambda a: a.campaign_id == DELETED, campaign_id="5")
    return history


@breaks("I3")
def something_is_accepted_without_a_claim() -> History:
    history = good_history()
    history.acceptances.append(
        replace(accepted(history, SMS, 1, 1), number=9, recipient="+15125551" + "0009")
    )
    return history


@breaks("I3")
def a_cancelled_message_was_accepted() -> History:
    story = Story()
    story.begin_first()
    story.sms.report(S.SENT, 1, 2)
    story.sms.report(S.DELIVERED, 1, 2, 3)
    story.sms.stop()
    story.sms.report(S.FAILED, 5, reason=R.UNCONFIRMED)
    story.sms.report(S.CANCELLED, 4, 7, 8, 9, 10)
    history = story.told()
    history.acceptances.append(
        replace(accepted(history, SMS, 1, 1), number=4, recipient=story.sms.recipient(4))
    )
    return history


@breaks("I3")
def an_accepted_message_stays_unconfirmed() -> History:
    history = good_history()
    of_retry = accepted(history, SMS, 5, 2)
    history.acceptances.append(
        replace(of_retry, attempt=1, arrived_time=accepted(history, SMS, 3, 1).arrived_time)
    )
    return history


@breaks("I3")
def too_many_are_unconfirmed_that_were_never_sent() -> History:
    history = good_history()
    history.bounds = replace(history.bounds, unsent_unconfirmed_max=0)
    return history


@breaks("I3")
def a_delivered_message_was_never_accepted() -> History:
    history = good_history()
    history.acceptances.remove(accepted(history, SMS, 3, 1))
    return history


@breaks("I3")
def an_accepted_message_is_known_by_another_id() -> History:
    history = good_history()
    alter(history.acceptances, lambda a: a.number == 3, provider_message_id="SManother")
    return history


@breaks("I3")
def a_message_went_to_somebody_else() -> History:
    history = good_history()
    alter(history.acceptances, lambda a: a.number == 3, recipient="+15125559999")
    return history


@breaks("I4")
def a_list_told_counts_that_do_not_add_up() -> History:
    history = good_history()
    alter(history.seen, lambda s: s.campaign_id == SMS, total=11)
    return history


@breaks("I4")
def a_watcher_was_told_counts_that_do_not_add_up() -> History:
    history = good_history()
    alter(history.watched, lambda w: w.told is Told.SNAPSHOT and w.campaign_id == SMS, total=9)
    return history


@breaks("I4")
def a_commit_has_other_counts_than_its_messages() -> History:
    story = Story()
    story.begin_first()
    # Seen by no watcher: the only one joins later.
    change = story.sms.changes[2]
    counts = {**change.counts, S.SENDING: 4, S.QUEUED: 5}
    assert change.counts != counts
    assert sum(counts.values()) == sum(change.counts.values())
    story.sms.changes[2] = replace(change, counts=counts)
    story.stop_first()
    history = story.told()
    history.watched = story.sms.watched("late", 1, since=5)
    return history


@breaks("I4")
def an_export_lacks_a_message() -> History:
    history = good_history()
    alter(history.exports, lambda e: e.campaign_id == EMAIL, rows=4)
    return history


@breaks("I4")
def an_export_has_other_bytes_than_its_checksum() -> History:
    history = good_history()
    alter(history.exports, lambda e: e.campaign_id == EMAIL, bytes_right=False)
    return history


@breaks("I4")
def an_export_of_the_final_campaign_has_other_counts() -> History:
    history = good_history()
    alter(history.exports, lambda e: e.campaign_final, counts={S.DELIVERED: 5})
    return history


@breaks("I5")
def a_delivered_message_is_assumed_delivered_again() -> History:
    story = Story()
    story.begin_first()
    story.sms.report(S.ASSUMED_DELIVERED, 3)
    story.sms.report(S.DELIVERED, 3)
    story.sms.report(S.ASSUMED_DELIVERED, 3)
    story.stop_first()
    return story.told()


@breaks("I5")
def an_sms_bounces_after_its_delivery() -> History:
    story = Story()
    story.begin_first()
    story.stop_first()
    story.sms.report(S.FAILED, 3, reason=R.UNREACHABLE)
    return story.told()


@breaks("I5")
def a_delivery_that_was_told_becomes_a_failure() -> History:
    story = Story()
    story.begin_first()
    story.stop_first()
    story.sms.report(S.FAILED, 3, reason=R.UNREACHABLE)
    return story.told()


@breaks("I5")
def an_attempt_is_left_out() -> History:
    story = Story()
    story.begin_first()
    four = story.sms.latest[4]
    story.sms.latest[4] = replace(four, attempt=four.attempt + 1)
    story.stop_first()
    return story.told()


@breaks("I5")
def a_watcher_of_a_deleted_campaign_is_set_back() -> History:
    history = good_history()
    last = next(w for w in reversed(history.watched) if w.campaign_id == DELETED and w.messages)
    sent = [replace(message, status=S.SENT) for message in last.messages]
    history.watched.append(replace(last, revision=last.revision + 1, messages=tuple(sent)))
    return history

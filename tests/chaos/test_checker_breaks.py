"""The checker finds nothing in a history in which every promise held, and each break in one in which it did not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.checker import INVARIANTS, check
from chaos.history import Told
from tests.chaos import breaks_of_campaigns, breaks_of_messages
from tests.chaos.good_history import EMAIL, Story, good_history
from tests.chaos.history_breaks import BREAKS

#: Filled when these are imported.
assert BREAKS, (breaks_of_campaigns, breaks_of_messages)


def test_a_good_history_has_no_violation() -> None:
    assert [*map(str, check(good_history()))] == []


@pytest.mark.parametrize(("invariant", "name"), BREAKS, ids=[f"{i}-{name}" for i, name in BREAKS])
def test_a_break_is_told_as_what_it_is(invariant: str, name: str) -> None:
    violations = check(BREAKS[invariant, name]())
    assert {violation.invariant for violation in violations} == {invariant}, [*map(str, violations)]


def test_each_invariant_can_fail() -> None:
    assert {invariant for invariant, _ in BREAKS} == INVARIANTS.keys()


def test_a_believed_forgery_is_told_by_what_it_claims() -> None:
    assert {violation.invariant for violation in check(breaks_of_campaigns.believed_forgery())} == {
        "I3",
        "I11",
    }


def test_what_a_fault_may_cost_is_no_violation() -> None:
    history = BREAKS["I3", "an_accepted_message_stays_unconfirmed"]()
    history.bounds = replace(history.bounds, receipts_may_be_lost=True)
    assert check(history) == []
    history = BREAKS["I7", "a_message_is_sent_after_its_window"]()
    history.bounds = replace(history.bounds, hold_seconds=3.0)
    assert check(history) == []


def test_a_watcher_that_left_need_not_know_the_end() -> None:
    history = BREAKS["I8", "a_watcher_is_not_told_of_the_end"]()
    history.watched += [
        replace(
            next(w for w in history.watched if (w.watcher, w.campaign_id) == (watcher, EMAIL)),
            told=Told.LEFT,
        )
        for watcher in ("each-commit", "some-commits")
    ]
    assert check(history) == []


def test_a_campaign_that_was_never_run_keeps_every_promise() -> None:
    story = Story()
    story.look()
    assert check(story.told()) == []

"""No history that goes the lifecycle's ways is found fault with, and none that was tampered with passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chaos.checker import check
from chaos.history import Bounds, History
from outreach.vocabulary import Channel, FailureReason, MessageStatus
from services.campaign.domain.lifecycle import ACTIVE, FINAL, MESSAGE_EDGES, Cause, Edge
from tests.chaos.made_history import Clock, MadeCampaign, history_of

S = MessageStatus
R = FailureReason

_BY_THEMSELVES = (Cause.REPORT, Cause.TIMER)
_ONLY_WHEN_TAKEN = {S.SENT, S.RETRYING, S.DELIVERED, S.ASSUMED_DELIVERED}


class Walk:
    """A campaign that goes any legal way, drawn step by step, to its end."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        channel = draw(st.sampled_from(Channel))
        self.made = MadeCampaign("9", channel, draw(st.integers(1, 5)), Clock())
        self.taken: set[tuple[int, int]] = set()

    def go(self) -> History:
        """Some runs, each to its end."""
        self.made.run()
        self._run_out()
        for _ in range(self.draw(st.integers(0, 2))):
            again = self._in(S.FAILED, S.CANCELLED)
            if again:
                self.made.retry(*self._some(again), forced=True)
                self._run_out()
        # Any of the provider's words may have got lost here, and any request.
        bounds = Bounds(
            send_window_seconds=1e6, unsent_unconfirmed_max=100, receipts_may_be_lost=True
        )
        return history_of(self.made, bounds=bounds)

    def _run_out(self) -> None:
        stopped = False
        for _ in range(self.draw(st.integers(0, 12))):
            if not stopped and self._in(*ACTIVE) and self.draw(st.integers(0, 5)) == 5:
                self.made.stop()
                stopped = True
            self._go_on(stopped=stopped)
        while self._in(*(set(S) - FINAL)):
            self._go_on(stopped=stopped, everything=True)

    def _go_on(self, *, stopped: bool, everything: bool = False) -> None:
        queued, under_way = self._in(S.QUEUED), self._in(S.SENDING, S.SENT, S.RETRYING)
        if queued and stopped:
            self.made.report(S.CANCELLED, *queued)
        elif queued and (everything or self.draw(st.booleans())):
            self._claim(queued if everything else self._some(queued))
        elif under_way or not everything:
            for number in under_way if everything else self._some([*self.made.latest]):
                self._move(number, to_the_end=everything)

    def _claim(self, numbers: list[int]) -> None:
        self.made.claim(*numbers)
        for number in numbers:
            if self.draw(st.booleans()):
                self.made.accept(number)
                self.taken.add((number, self.made.latest[number].attempt))

    def _move(self, number: int, *, to_the_end: bool) -> None:
        """By one of the edges that a report or a timer takes, if the provider's ledger allows any."""
        edges = [edge for edge in MESSAGE_EDGES if self._fits(edge, number)]
        if to_the_end:
            edges = [edge for edge in edges if edge.target in FINAL]
        if not edges:
            return
        edge = self.draw(st.sampled_from(edges))
        reason = None
        if edge.target is S.FAILED:
            unconfirmed = edge.cause is Cause.TIMER and edge.source is not S.RETRYING
            reason = R.UNCONFIRMED if unconfirmed else R.UNREACHABLE
        self.made.report(edge.target, number, reason=reason)

    def _fits(self, edge: Edge, number: int) -> bool:
        message = self.made.latest[number]
        is_taken = (number, message.attempt) in self.taken
        return (
            edge.source is message.status
            and edge.cause in _BY_THEMSELVES
            and self.made.channel in edge.channels
            and edge.source_reason in (None, message.failure_reason)
            and (is_taken or edge.target not in _ONLY_WHEN_TAKEN)
            and not (is_taken and edge.target is S.QUEUED)
        )

    def _in(self, *statuses: MessageStatus) -> list[int]:
        return [n for n, message in self.made.latest.items() if message.status in statuses]

    def _some(self, numbers: list[int]) -> list[int]:
        return sorted(self.draw(st.sets(st.sampled_from(numbers), min_size=1)))


@settings(deadline=None)
@given(st.data())
def test_what_goes_the_lifecycle_s_ways_keeps_every_promise(data: st.DataObject) -> None:
    assert [*map(str, check(Walk(data.draw).go()))] == []


def _other_counts(history: History, index: int) -> None:
    change = history.changes[index % len(history.changes)]
    counts = {**change.counts}
    source = next(status for status, number in counts.items() if number)
    counts[source] -= 1
    other = S.FAILED if source is not S.FAILED else S.CANCELLED
    counts[other] = counts.get(other, 0) + 1
    history.changes[index % len(history.changes)] = replace(change, counts=counts)


def _no_commit(history: History, index: int) -> None:
    del history.changes[index % len(history.changes)]


def _other_status(history: History, index: int) -> None:
    message = history.messages[index % len(history.messages)]
    other = S.DELIVERED if message.status is not S.DELIVERED else S.OPTED_OUT
    history.messages[index % len(history.messages)] = replace(
        message, status=other, failure_reason=None
    )


def _no_message(history: History, index: int) -> None:
    del history.messages[index % len(history.messages)]


def _other_revision(history: History, index: int) -> None:
    told = [i for i, watched in enumerate(history.watched) if watched.messages]
    assume(told)
    at = told[index % len(told)]
    history.watched[at] = replace(history.watched[at], revision=history.watched[at].revision + 1)


def _accepted_twice(history: History, index: int) -> None:
    assume(history.acceptances)
    history.acceptances.append(history.acceptances[index % len(history.acceptances)])


def _accepted_for_nobody(history: History, index: int) -> None:
    assume(history.acceptances)
    at = index % len(history.acceptances)
    history.acceptances[at] = replace(history.acceptances[at], token_valid=False)


@settings(deadline=None)
@given(
    st.data(),
    st.sampled_from(
        [
            _other_counts,
            _no_commit,
            _other_status,
            _no_message,
            _other_revision,
            _accepted_twice,
            _accepted_for_nobody,
        ]
    ),
    st.integers(0, 1_000),
)
def test_what_was_tampered_with_is_told(
    data: st.DataObject, tamper: Callable[[History, int], None], index: int
) -> None:
    history = Walk(data.draw).go()
    tamper(history, index)
    assert check(history) != []

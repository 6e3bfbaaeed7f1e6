"""Tokens that were tampered with, outcomes in any order, journals cut anywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outreach.internal.v1 import delivery_pb2
from outreach.sending.attempt_token import AttemptId, InvalidToken, TokenKey
from outreach.sending.journal import Journal, JournalState, read_journal
from outreach.sending.outcomes import AttemptOutcome, merged
from outreach.vocabulary import Channel, FailureReason, Outcome

KEY = TokenKey("a key of at least thirty-two characters")
numbers = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(st.uuids(), st.uuids(), numbers, numbers)
def test_an_attempt_token_says_what_was_signed(
    organisation: UUID, campaign: UUID, number: int, attempt: int
) -> None:
    token = KEY.sign_attempt(organisation.bytes, campaign.bytes, number, attempt)
    assert KEY.read_attempt(token) == AttemptId(organisation, campaign, number, attempt)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@settings(deadline=None)
@given(st.uuids(), st.integers(0, 66), st.sampled_from("AZaz09-_é=+/"))
@example(UUID(bytes=b"\xff" * 16), 0, "/")  # was read as the "_" that stood there
def test_a_changed_token_is_refused(campaign: UUID, place: int, character: str) -> None:
    token = KEY.sign_attempt(campaign.bytes, campaign.bytes, 1, 1)
    changed = token[:place] + character + token[place + 1 :]
    if changed == token:
        return
    with pytest.raises(InvalidToken):
        KEY.read_attempt(changed)


@settings(deadline=None)
@given(st.text(max_size=120))
def test_any_text_is_refused_or_ours(text: str) -> None:
    with pytest.raises(InvalidToken):
        KEY.read_attempt(text)
    with pytest.raises(InvalidToken):
        KEY.read_organisation(text)


@settings(deadline=None)
@given(st.uuids())
def test_tokens_of_one_kind_are_none_of_the_other(organisation: UUID) -> None:
    token = KEY.sign_organisation(organisation)
    assert KEY.read_organisation(token) == organisation
    with pytest.raises(InvalidToken):
        KEY.read_attempt(token)
    other = TokenKey("another key of thirty-two characters!")
    with pytest.raises(InvalidToken):
        other.read_organisation(token)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        TokenKey("too short")


outcomes = st.builds(
    AttemptOutcome,
    number=st.just(1),
    attempt=st.just(1),
    outcome=st.sampled_from(Outcome),
    provider_message_id=st.sampled_from(["", "SM1"]),
    segments=st.integers(0, 3),
)


@settings(deadline=None)
@given(outcomes, outcomes, outcomes, st.sampled_from(Channel))
def test_merging_does_not_depend_on_the_order(
    a: AttemptOutcome, b: AttemptOutcome, c: AttemptOutcome, channel: Channel
) -> None:
    def both(one: AttemptOutcome, other: AttemptOutcome) -> AttemptOutcome:
        return merged(one, other, channel)

    assert both(a, b) == both(b, a)
    assert both(both(a, b), c) == both(a, both(b, c))
    assert both(a, a) == a


@pytest.mark.parametrize("outcome", Outcome)
def test_reports_carry_outcomes_there_and_back(outcome: Outcome) -> None:
    sent = AttemptOutcome(3, 2, outcome, "SM1", FailureReason.OTHER, "12345", 4)
    report = delivery_pb2.Report.FromString(sent.to_report().SerializeToString())
    assert AttemptOutcome.from_report(report) == sent
    assert delivery_pb2.Outcome.Name(report.outcome) == f"OUTCOME_{outcome.name}"


CAMPAIGN = UUID(int=5)


def batch(*attempts: tuple[int, int]) -> delivery_pb2.ReportBatch:
    reports = [
        AttemptOutcome(number, attempt, Outcome.ACCEPTED, "SM").to_report()
        for number, attempt in attempts
    ]
    return delivery_pb2.ReportBatch(
        campaigns=[delivery_pb2.CampaignReports(campaign_id=str(CAMPAIGN), reports=reports)]
    )


Step = Callable[[Journal, int], None]
steps: list[Step] = [
    lambda journal, index: journal.begun(index, CAMPAIGN.bytes, [(1, 1)]),
    lambda journal, index: journal.begun(index, CAMPAIGN.bytes, [(2, 1)]),
    lambda journal, index: journal.not_created(index, CAMPAIGN.bytes, [(2, 1)]),
    lambda journal, index: journal.begun(index, CAMPAIGN.bytes, [(2, 1)]),
    lambda journal, index: journal.begun(index, CAMPAIGN.bytes, [(3, 4), (4, 1), (5, 1)]),
    lambda journal, index: journal.not_created(index, CAMPAIGN.bytes, [(4, 1), (5, 1)]),
    lambda journal, index: journal.reports(1, batch((1, 1))),
    lambda journal, index: journal.reports(2, batch((2, 1), (9, 9))),
    lambda journal, index: journal.acked(1),
]


def journal_after(count: int, directory: Path) -> tuple[bytes, JournalState]:
    journal = Journal(directory)
    index = journal.open_instance(UUID(int=7))
    for step in steps[:count]:
        step(journal, index)
    data = journal.path.read_bytes()
    journal.close()
    return data, read_journal(data)


@settings(deadline=None)
@given(st.data())
def test_a_journal_cut_anywhere_says_what_a_shorter_one_said(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        whole, _ = journal_after(len(steps), directory / "whole")
        lengths = []
        states = []
        for count in range(len(steps) + 1):
            shorter, state = journal_after(count, directory / str(count))
            lengths.append(len(shorter))
            states.append(state)
        cut = data.draw(st.integers(lengths[0], len(whole)))
        expected = max(n for n, length in enumerate(lengths) if length <= cut)
        assert read_journal(whole[:cut]) == states[expected]
        noise = data.draw(st.binary(max_size=20))
        assert read_journal(whole + noise) == states[-1]

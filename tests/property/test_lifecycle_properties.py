"""Counts add up along any permitted way, a campaign's status always follows, and reports fold the same in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from outreach.internal.v1 import delivery_pb2 as pb
from outreach.vocabulary import (
    OUTCOME_RANK,
    CampaignStatus,
    Channel,
    FailureReason,
    MessageStatus,
    Outcome,
)
from services.campaign.delivery.reports import fold
from services.campaign.domain.lifecycle import (
    ACTIVE,
    FINAL,
    MESSAGE_EDGES,
    Counts,
    allowed_actions,
    campaign_status,
)

S = MessageStatus

counts_of_any_kind = st.builds(
    Counts, **{status.name.lower(): st.integers(0, 300_000) for status in S}
)


@settings(deadline=None)
@given(st.data(), st.sampled_from(Channel), st.integers(1, 20))
def test_counts_add_up_after_any_permitted_moves(
    data: st.DataObject, channel: Channel, contacts: int
) -> None:
    messages = [S.WAITING] * contacts
    counts = Counts(waiting=contacts)
    edges = [edge for edge in MESSAGE_EDGES if channel in edge.channels]
    for _ in range(data.draw(st.integers(0, 30))):
        batch = []
        for number in data.draw(
            st.lists(st.integers(0, contacts - 1), unique=True, max_size=contacts)
        ):
            ways = [edge.target for edge in edges if edge.source is messages[number]]
            if not ways:
                continue
            target = data.draw(st.sampled_from(ways))
            batch.append((messages[number], target))
            messages[number] = target
        counts = counts.moved(batch)
        assert counts.total == contacts
        assert counts.as_list() == [messages.count(status) for status in S]
        assert min(counts.as_list()) >= 0


@given(counts_of_any_kind, st.integers(0, 5), st.booleans(), st.booleans())
def test_a_campaigns_status_always_follows(
    counts: Counts, run: int, template_valid: bool, critical: bool
) -> None:
    status = campaign_status(
        counts, run=run, template_valid=template_valid, critical_failure=critical
    )
    present = {each for each, count in zip(S, counts.as_list(), strict=True) if count}
    in_progress = status is CampaignStatus.IN_PROGRESS
    assert in_progress == (run > 0 and bool(present & ACTIVE))
    if run == 0:
        assert status in {CampaignStatus.CREATED, CampaignStatus.READY}
    if status in {CampaignStatus.COMPLETE, CampaignStatus.COMPLETE_WITH_ERRORS}:
        assert present <= FINAL | {S.WAITING}
        assert (S.FAILED in present) == (status is CampaignStatus.COMPLETE_WITH_ERRORS)
    if status is CampaignStatus.FAILED:
        assert critical
    # Something can be done with a campaign in any state: at least to export it.
    assert allowed_actions(status, counts, stopped=False)


def _report(number: int, attempt: int, outcome: Outcome) -> pb.Report:
    """What a provider tells of one attempt is the same each time that it is told."""
    failed = outcome in {Outcome.REJECTED, Outcome.FAILED}
    report: dict[str, Any] = {"number": number, "attempt": attempt, "outcome": int(outcome)}
    if failed:
        report |= {
            "failure_reason": int(FailureReason.UNREACHABLE),
            "provider_code": f"3000{int(outcome)}",
        }
    if outcome in {Outcome.ACCEPTED, Outcome.DELIVERED, Outcome.FAILED}:
        report["provider_message_id"] = f"SM{number}-{attempt}"
    if outcome is Outcome.ACCEPTED:
        report["segments"] = number + attempt
    return pb.Report(**report)


reports_of_any_kind = st.builds(
    _report, st.integers(1, 3), st.integers(1, 2), st.sampled_from(Outcome)
)


@settings(deadline=None)
@given(
    st.sampled_from(Channel),
    st.lists(reports_of_any_kind, max_size=25),
    st.randoms(use_true_random=False),
)
def test_reports_fold_the_same_in_any_order_and_number(
    channel: Channel, reports: list[pb.Report], random: Any
) -> None:
    inorder = fold(reports, channel)
    mixed = reports + [random.choice(reports) for _ in range(5) if reports]
    random.shuffle(mixed)
    assert fold(mixed, channel) == inorder
    for (number, attempt), learned in inorder.items():
        told = [
            Outcome(report.outcome)
            for report in reports
            if (report.number, report.attempt) == (number, attempt)
        ]
        assert learned.outcome is max(told, key=OUTCOME_RANK[channel].__getitem__)


def test_an_outcome_of_a_newer_version_is_left_out() -> None:
    newer = pb.Report(number=1, attempt=1, outcome=99)  # type: ignore[arg-type] # an open enum
    assert fold([newer], Channel.SMS) == {}
    known = _report(1, 1, Outcome.ACCEPTED)
    assert fold([newer, known, newer], Channel.SMS) == fold([known], Channel.SMS)

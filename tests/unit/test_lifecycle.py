"""The state tables of messages and campaigns, held to the product's rules and to the SQL that moves messages."""

import re

import pytest

from outreach.vocabulary import (
    OUTCOME_RANK,
    CampaignAction,
    CampaignStatus,
    Channel,
    FailureReason,
    MessageStatus,
    Outcome,
)
from services.campaign.delivery.changes import QUERIES
from services.campaign.domain.lifecycle import (
    ACTION_STATUSES,
    ACTIVE,
    FINAL,
    MESSAGE_EDGES,
    OUTCOME_TARGET,
    Cause,
    Counts,
    Edge,
    allowed_actions,
    campaign_status,
    edge_codes,
    report_edges,
)

S = MessageStatus
C = CampaignStatus
A = CampaignAction
SMS, EMAIL = Channel.SMS, Channel.EMAIL


def edges(channel: Channel, *, source: MessageStatus | None = None) -> list[Edge]:
    """The edges of a channel, from one status or all."""
    return [
        edge for edge in MESSAGE_EDGES if channel in edge.channels and source in (None, edge.source)
    ]


@pytest.mark.parametrize("channel", Channel)
def test_every_status_of_a_channel_can_be_reached_from_waiting(channel: Channel) -> None:
    reached = {S.WAITING}
    while more := {edge.target for edge in edges(channel) if edge.source in reached} - reached:
        reached |= more
    not_on_sms, not_on_email = {S.RETRYING}, {S.ASSUMED_DELIVERED}
    assert set(S) - reached == (not_on_sms if channel is SMS else not_on_email)


@pytest.mark.parametrize("channel", Channel)
def test_from_every_status_that_is_not_final_a_final_one_can_be_reached(channel: Channel) -> None:
    ends = set(FINAL)
    while more := {edge.source for edge in edges(channel) if edge.target in ends} - ends:
        ends |= more
    assert set(S) - ends == ({S.RETRYING} if channel is SMS else set())


def test_no_edge_is_told_twice() -> None:
    for channel in Channel:
        told = [(e.source, e.target, e.cause, e.source_reason) for e in edges(channel)]
        assert len(told) == len(set(told))
    assert all(edge.note and edge.channels for edge in MESSAGE_EDGES)


def test_a_final_status_is_left_only_as_the_product_says() -> None:
    unconfirmed = FailureReason.UNCONFIRMED
    left = {
        channel: {
            (e.source, e.target, e.cause, e.source_reason)
            for e in edges(channel)
            if e.source in FINAL
        }
        for channel in Channel
    }
    both = {
        (S.FAILED, S.FAILED, Cause.REPORT, unconfirmed),
        (S.FAILED, S.QUEUED, Cause.RETRY, None),
        (S.CANCELLED, S.QUEUED, Cause.RETRY, None),
    }
    assert left[SMS] == both | {
        (S.ASSUMED_DELIVERED, S.DELIVERED, Cause.REPORT, None),
        (S.ASSUMED_DELIVERED, S.FAILED, Cause.REPORT, None),
        (S.FAILED, S.DELIVERED, Cause.REPORT, None),
        (S.FAILED, S.ASSUMED_DELIVERED, Cause.REPORT, unconfirmed),
    }
    assert left[EMAIL] == both | {
        (S.DELIVERED, S.FAILED, Cause.REPORT, None),
        (S.FAILED, S.DELIVERED, Cause.REPORT, unconfirmed),
    }


def test_an_sms_that_was_delivered_and_anything_opted_out_stay_so() -> None:
    assert not edges(SMS, source=S.DELIVERED)
    for channel in Channel:
        assert not edges(channel, source=S.OPTED_OUT)


def test_only_a_claim_begins_an_attempt_and_only_a_hand_back_or_a_retry_queues_again() -> None:
    for channel in Channel:
        to = {
            target: {(e.source, e.cause) for e in edges(channel) if e.target is target}
            for target in (S.WAITING, S.SENDING, S.QUEUED, S.CANCELLED)
        }
        assert to == {
            S.WAITING: set(),
            S.SENDING: {(S.QUEUED, Cause.CLAIM)},
            S.QUEUED: {
                (S.WAITING, Cause.RUN),
                (S.SENDING, Cause.REPORT),
                (S.FAILED, Cause.RETRY),
                (S.CANCELLED, Cause.RETRY),
            },
            S.CANCELLED: {(S.QUEUED, Cause.STOP)},
        }


def test_final_active_and_the_rest_are_apart() -> None:
    assert not FINAL & ACTIVE
    assert set(S) - FINAL - ACTIVE == {S.WAITING, S.RETRYING}


def test_every_outcome_has_a_rank_of_its_own_and_a_target_that_settles_a_claim() -> None:
    assert set(OUTCOME_TARGET) == set(Outcome)
    stays = {outcome for outcome, target in OUTCOME_TARGET.items() if target is None}
    assert stays == {Outcome.UNKNOWN, Outcome.NOT_FOUND}
    for channel in Channel:
        assert set(OUTCOME_RANK[channel]) == set(Outcome)
        assert sorted(OUTCOME_RANK[channel].values()) == list(range(len(Outcome)))
        from_sending = {
            target for source, target, _ in report_edges(channel) if source is S.SENDING
        }
        wanted = {target for target in OUTCOME_TARGET.values() if target is not None}
        assert wanted - from_sending == (set() if channel is EMAIL else {S.RETRYING})


def test_evidence_of_a_send_beats_a_hand_back_and_an_end_beats_the_way_to_it() -> None:
    order = [
        Outcome.UNKNOWN,
        Outcome.HANDED_BACK,
        Outcome.ACCEPTED,
        Outcome.DEFERRED,
    ]
    last = {
        EMAIL: [Outcome.DELIVERED, Outcome.FAILED],  # a bounce after delivery
        SMS: [Outcome.FAILED, Outcome.DELIVERED],  # whoever has it must not be sent it again
    }
    for channel, ends in last.items():
        told = order + ends
        assert sorted(told, key=OUTCOME_RANK[channel].__getitem__) == told


def test_edge_codes_are_the_edges() -> None:
    for channel in Channel:
        codes = edge_codes(report_edges(channel))
        assert len(set(codes)) == len(codes)
        decoded = [(code // 100 % 100, code % 100, code // 10_000 or None) for code in codes]
        assert decoded == [(int(s), int(t), r and int(r)) for s, t, r in report_edges(channel)]


@pytest.mark.parametrize(
    ("query", "sources", "targets", "cause"),
    [
        ("claim_messages", {S.QUEUED}, {S.OPTED_OUT, S.SENDING}, None),
        ("hand_back_instance", {S.SENDING}, {S.QUEUED}, Cause.REPORT),
        ("cancel_queued", {S.QUEUED}, {S.CANCELLED}, Cause.STOP),
        ("assume_delivered", {S.SENT}, {S.ASSUMED_DELIVERED}, Cause.TIMER),
        ("give_up_unknown", {S.SENDING}, {S.FAILED}, Cause.TIMER),
        ("time_out", {S.SENT, S.RETRYING}, {S.FAILED}, Cause.TIMER),
    ],
)
def test_the_sql_moves_messages_along_edges_of_the_table(
    query: str, sources: set[MessageStatus], targets: set[MessageStatus], cause: Cause | None
) -> None:
    text = QUERIES[query]
    guards = re.findall(
        r"(?<!\w)(?:m\.)?status (?:= (\d+)|IN \(([\d, ]+)\))", text.replace("SET status", "")
    )
    found = {number for guard in guards for number in re.findall(r"\d+", "".join(guard))}
    assert found == {str(int(source)) for source in sources}
    assignment = re.search(r"SET status = (\d+|CASE.*?END)", text)
    assert assignment
    assert set(re.findall(r"\d+", assignment[1])) == {str(int(target)) for target in targets}
    causes = {Cause.CLAIM, Cause.SUPPRESSED} if cause is None else {cause}
    table = {(e.source, e.target) for e in MESSAGE_EDGES if e.cause in causes}
    assert {(source, target) for source in sources for target in targets} <= table


def test_what_arrived_is_settled_along_edges_of_the_table() -> None:
    """Its statement takes the status over from what is kept of the attempt."""
    text = QUERIES["settle_arrived"]
    arrived = {S.DELIVERED, S.ASSUMED_DELIVERED}
    numbers = ", ".join(str(int(status)) for status in sorted(arrived))
    assert f"status IN ({numbers})" in text
    assert f"m.status = {int(S.QUEUED)}" in text
    edges = {(e.source, e.target) for e in MESSAGE_EDGES if e.cause is Cause.ARRIVED}
    assert edges == {(S.QUEUED, target) for target in arrived}


def test_only_emails_are_timed_out_and_only_unknown_attempts_are_given_up() -> None:
    timed = {
        channel: {
            (e.source, e.target, e.note.partition(":")[0])
            for e in edges(channel)
            if e.cause is Cause.TIMER and e.target is S.FAILED
        }
        for channel in Channel
    }
    given_up = {(S.SENDING, S.FAILED, "UNCONFIRMED")}
    assert timed[SMS] == given_up
    assert timed[EMAIL] == given_up | {
        (S.SENT, S.FAILED, "UNCONFIRMED"),
        (S.RETRYING, S.FAILED, "TIMED_OUT"),
    }
    given_up_number = FailureReason.UNCONFIRMED.value
    assert f"failure_reason = {given_up_number}," in QUERIES["give_up_unknown"]
    assert f"{given_up_number}::smallint AS failure_reason" in QUERIES["give_up_unknown"]
    by_status = (
        f"WHEN {S.SENT.value} THEN {given_up_number} ELSE {FailureReason.TIMED_OUT.value} END"
    )
    assert by_status in QUERIES["time_out"]


@pytest.mark.parametrize(
    ("counts", "run", "critical", "status"),
    [
        (Counts(), 0, False, C.CREATED),
        (Counts(waiting=3), 0, False, C.READY),
        (Counts(queued=1, delivered=9), 1, False, C.IN_PROGRESS),
        (Counts(sending=1, failed=9), 1, False, C.IN_PROGRESS),
        (Counts(sent=1), 1, False, C.IN_PROGRESS),
        (Counts(sent=1, cancelled=9), 1, True, C.IN_PROGRESS),
        (Counts(retrying=1, failed=1), 1, False, C.ACTIVE_RETRIES),
        (Counts(delivered=2, assumed_delivered=1), 1, False, C.COMPLETE),
        (Counts(opted_out=3), 1, False, C.COMPLETE),
        (Counts(delivered=1, cancelled=3), 1, False, C.COMPLETE),
        (Counts(delivered=1, failed=1), 2, False, C.COMPLETE_WITH_ERRORS),
        (Counts(delivered=1, cancelled=1), 1, True, C.FAILED),
        (Counts(), 1, False, C.COMPLETE),
    ],
)
def test_a_campaigns_status_follows_from_its_messages(
    counts: Counts, run: int, critical: bool, status: CampaignStatus
) -> None:
    found = campaign_status(counts, run=run, template_valid=True, critical_failure=critical)
    assert found is status


def test_a_campaign_whose_template_is_not_valid_is_not_ready() -> None:
    counts = Counts(waiting=1)
    found = campaign_status(counts, run=0, template_valid=False, critical_failure=False)
    assert found is C.CREATED


@pytest.mark.parametrize(
    ("status", "counts", "stopped", "actions"),
    [
        (C.CREATED, Counts(), False, {A.UPDATE, A.IMPORT_CONTACTS, A.DELETE, A.EXPORT}),
        (C.CREATED, Counts(waiting=1), False, {A.UPDATE, A.DELETE, A.EXPORT}),
        (C.READY, Counts(waiting=1), False, {A.UPDATE, A.RUN, A.DELETE, A.EXPORT}),
        (C.IN_PROGRESS, Counts(queued=1), False, {A.STOP, A.EXPORT}),
        (C.IN_PROGRESS, Counts(sending=1, cancelled=2), True, {A.EXPORT}),
        (C.ACTIVE_RETRIES, Counts(retrying=1), False, {A.EXPORT}),
        (C.COMPLETE, Counts(delivered=1), False, {A.DELETE, A.EXPORT}),
        (C.COMPLETE, Counts(cancelled=1), True, {A.RETRY, A.DELETE, A.EXPORT}),
        (C.COMPLETE_WITH_ERRORS, Counts(failed=1), False, {A.RETRY, A.DELETE, A.EXPORT}),
        (C.FAILED, Counts(delivered=1), False, {A.DELETE, A.EXPORT}),
        (C.FAILED, Counts(cancelled=1), False, {A.RETRY, A.DELETE, A.EXPORT}),
    ],
)
def test_what_may_be_done_follows_from_the_state(
    status: CampaignStatus, counts: Counts, stopped: bool, actions: set[CampaignAction]
) -> None:
    assert set(allowed_actions(status, counts, stopped=stopped)) == actions


def test_every_action_has_its_states() -> None:
    assert set(ACTION_STATUSES) == set(A)

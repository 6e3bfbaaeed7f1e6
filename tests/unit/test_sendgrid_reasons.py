"""Every line of the tables, what is unknown, and that no text of a mail server gets through."""

from __future__ import annotations

import pytest

from outreach.failures import sendgrid
from outreach.vocabulary import FailureReason, Outcome
from services.sandbox.sendgrid.events import REFUSALS
from services.sandbox.sendgrid.knobs import EVENT_TYPES
from services.sender_email import event_fields, reasons
from services.sender_email.reasons import event_outcome, status_reason

R = FailureReason


def bounce(**more: str) -> tuple[Outcome, FailureReason | None, str] | None:
    return event_outcome({"event": "bounce", **more})


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("processed", Outcome.ACCEPTED),
        ("deferred", Outcome.DEFERRED),
        ("delivered", Outcome.DELIVERED),
        ("open", Outcome.DELIVERED),
        ("click", Outcome.DELIVERED),
    ],
)
def test_events_that_prove_what_they_say(kind: str, outcome: Outcome) -> None:
    assert event_outcome({"event": kind, "reason": "550 no"}) == (outcome, None, "")


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": None},
        {"event": 7},
        {"event": ["bounce"]},
        {"event": "levitated"},
        {"event": "account_status_change", "type": "compliance_suspend"},
        {"event": "spamreport"},
        {"event": "spam_report"},
        {"event": "unsubscribe"},
        {"event": "group_unsubscribe"},
        {"event": "group_resubscribe"},
    ],
)
def test_events_that_prove_nothing_about_a_delivery(event: dict[str, object]) -> None:
    assert event_outcome(event) is None


#: Written down a second time on purpose.
CLASSIFIED = {
    "Invalid Address": R.INVALID_RECIPIENT,
    "Mailbox Unavailable": R.MAILBOX_UNAVAILABLE,
    "Content": R.FILTERED_AS_SPAM,
    "Reputation": R.BLOCKED_BY_CARRIER_OR_SERVER,
    "Frequency or Volume Too High": R.RATE_LIMITED,
    "Technical": R.UNREACHABLE,
    "Technical Failure": R.UNREACHABLE,
}


@pytest.mark.parametrize(("name", "reason"), CLASSIFIED.items())
@pytest.mark.parametrize("kind", ["bounce", "blocked"])
def test_each_classification_has_its_reason(name: str, reason: R, kind: str) -> None:
    assert bounce(type=kind, bounce_classification=name) == (
        Outcome.FAILED,
        reason,
        f"{kind}/{name}",
    )


def test_no_classification_is_left_out() -> None:
    assert {*sendgrid.CLASSIFICATIONS, *sendgrid.VAGUE_CLASSIFICATIONS} == set(CLASSIFIED)
    assert set(CLASSIFIED) | {"Unclassified"} == {*REFUSALS, "Technical Failure"}


def test_a_classification_goes_before_the_status_unless_it_is_vague() -> None:
    exact = bounce(type="bounce", bounce_classification="Mailbox Unavailable", status="5.1.1")
    assert exact == (
        Outcome.FAILED,
        R.MAILBOX_UNAVAILABLE,
        "bounce/Mailbox Unavailable/5.1.1",
    )
    for vague in ("Technical", "Unclassified", "Something New"):
        found = bounce(type="blocked", bounce_classification=vague, status="5.1.2")
        assert found == (Outcome.FAILED, R.INVALID_RECIPIENT, f"blocked/{vague}/5.1.2")


STATUSES = {
    R.INVALID_RECIPIENT: "5.1.0 5.1.1 5.1.2 5.1.3 5.1.6 5.1.10 4.1.1 5.7.17 5.7.18 551 553",
    R.SENDER_NOT_ALLOWED: "5.1.7 5.1.8 5.7.20 5.7.21 5.7.22 5.7.23 5.7.24 5.7.26",
    R.MAILBOX_UNAVAILABLE: "5.2.0 5.2.1 5.2.2 4.2.2 5.2.4 5.7.13 552",
    R.CONTENT_REJECTED: "5.2.3 5.3.4 4.3.4 5.6.0 5.6.1 5.6.7",
    R.UNREACHABLE: "5.3.0 5.3.2 5.4.0 5.4.1 5.4.4 5.4.6",
    R.EXPIRED_IN_QUEUE: "5.4.7 4.4.7 4.3.0 4.3.2 4.4.1 4.4.2",
    R.PROVIDER_ERROR: "5.5.0 5.5.1 4.5.0",
    R.RATE_LIMITED: "5.5.3 4.5.3 4.7.28 5.7.28",
    R.BLOCKED_BY_CARRIER_OR_SERVER: "5.7.0 5.7.1 4.7.0 4.7.1 5.7.606",
}


@pytest.mark.parametrize(
    ("status", "reason"),
    [(status, reason) for reason, statuses in STATUSES.items() for status in statuses.split()],
)
def test_each_status_has_its_reason(status: str, reason: R) -> None:
    assert status_reason(status) is reason
    assert bounce(type="bounce", status=status) == (Outcome.FAILED, reason, f"bounce/{status}")


def test_every_line_of_the_statuses_is_tried_above() -> None:
    tried = {status for statuses in STATUSES.values() for status in statuses.split()}
    for line in sendgrid.STATUSES:
        grade, *rest = line.split(".")
        if not rest:
            assert line in tried
            continue
        subject, detail = rest
        assert any(
            status.count(".") == 2
            and grade in ("x", status.split(".")[0])
            and subject == status.split(".")[1]
            and detail in ("x", status.split(".")[2])
            for status in tried
        ), line


@pytest.mark.parametrize("status", ["5.0.0", "4.0.0", "550", "554", "421", "", "nonsense", "5.9.9"])
def test_where_no_code_tells_the_type_of_the_bounce_does(status: str) -> None:
    for kind, reason in (
        ("blocked", R.BLOCKED_BY_CARRIER_OR_SERVER),
        ("expired", R.EXPIRED_IN_QUEUE),
        ("bounce", R.OTHER),
        ("unheard of", R.OTHER),
    ):
        found = bounce(type=kind, status=status, bounce_classification="Unclassified")
        assert found is not None
        assert found[:2] == (Outcome.FAILED, reason)


def test_one_that_was_deferred_too_long_expired_whatever_was_said() -> None:
    found = bounce(type="expired", bounce_classification="Mailbox Unavailable", status="4.2.2")
    assert found is not None
    assert found[1] is R.EXPIRED_IN_QUEUE


DROPS = {
    "Bounced Address": R.PREVIOUSLY_BOUNCED,
    "Spam Reporting Address": R.PREVIOUSLY_BOUNCED,
    "Invalid": R.INVALID_RECIPIENT,
    "Spam Content": R.FILTERED_AS_SPAM,
    "Recipient List over Package Quota": R.ACCOUNT_PROBLEM,
    "Invalid SMTPAPI header": R.CONTENT_REJECTED,
    "Expired": R.EXPIRED_IN_QUEUE,
}


@pytest.mark.parametrize(("keyword", "reason"), DROPS.items())
def test_each_drop_has_its_reason(keyword: str, reason: R) -> None:
    expected = (Outcome.FAILED, reason, f"dropped/{keyword}")
    assert event_outcome({"event": "dropped", "reason": keyword, "status": "5.0.0"}) == expected
    assert event_outcome({"event": "dropped", "reason": f" {keyword.upper()} "}) == expected


def test_a_drop_because_of_an_unsubscribe_is_no_failure() -> None:
    assert event_outcome({"event": "dropped", "reason": "Unsubscribed Address"}) == (
        Outcome.OPTED_OUT,
        None,
        "dropped/Unsubscribed Address",
    )


def test_no_drop_reason_is_left_out() -> None:
    assert set(sendgrid.DROPS) == {*DROPS, "Unsubscribed Address"}
    assert set(event_fields.DROP_REASONS) == set(sendgrid.DROPS)
    assert set(event_fields.BOUNCE_TYPES) == set(sendgrid.BOUNCE_TYPES)
    assert set(event_fields.PLAIN_EVENTS) == set(reasons.OUTCOMES)
    assert set(EVENT_TYPES) <= event_fields.KNOWN_EVENTS


@pytest.mark.parametrize("reason", ["", "Bounced Address: a@b.example", "?", 7, None, ["Invalid"]])
def test_an_unknown_drop_is_other_and_its_text_is_not_kept(reason: object) -> None:
    assert event_outcome({"event": "dropped", "reason": reason}) == (
        Outcome.FAILED,
        R.OTHER,
        "dropped",
    )


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("550 5.1.1 <a@b.example> unknown", "", "bounce/5.1.1"),
        ("550-5.2.2 a@b.example is over quota", "", "bounce/5.2.2"),
        ("  550 #5.1.0 Address rejected", "", "bounce/5.1.0"),
        ("550 5.1.1 a@b.example", "5.0.0", "bounce/5.1.1"),
        ("550 5.1.1 a@b.example", "5.2.1", "bounce/5.2.1"),
        ("550 5.0.0 a@b.example", "", "bounce/5.0.0"),
        ("552 a@b.example is full", "", "bounce/552"),
        ("552 a@b.example is full", "5.0.0", "bounce/5.0.0"),
        ("500 unknown recipient", "550", "bounce/550"),
        ("5501 a@b.example", "", "bounce"),
        ("error dialing a@b.example: 550 5.1.1", "", "bounce"),
        ("unable to get mx info", "", "bounce"),
        ("", "a@b.example", "bounce"),
        ("", "5.1.1 a@b.example", "bounce"),
    ],
)
def test_of_what_a_mail_server_says_only_the_code_is_read(
    said: str, status: str, code: str
) -> None:
    found = bounce(type="bounce", reason=said, status=status)
    assert found is not None
    assert found[2] == code


@pytest.mark.parametrize(
    "classification",
    ["a@b.example", "Invalid Address a@b.example", "+41790000001", "x" * 41, "", "Mr. 7", "Ä"],
)
def test_a_classification_that_is_no_name_is_not_kept(classification: str) -> None:
    assert bounce(type="blocked", bounce_classification=classification) == (
        Outcome.FAILED,
        R.BLOCKED_BY_CARRIER_OR_SERVER,
        "blocked",
    )


def test_an_unknown_classification_is_kept() -> None:
    longest = "Y" * 40
    found = bounce(type="blocked", bounce_classification=longest, status="5.999.999")
    assert found == (
        Outcome.FAILED,
        R.BLOCKED_BY_CARRIER_OR_SERVER,
        f"blocked/{longest}/5.999.999",
    )
    assert len(found[2]) <= reasons.PROVIDER_CODE_CHARACTERS_MAX


def test_the_look_ups_have_other_names_for_the_same() -> None:
    said = "550 5.1.1 <a@b.example> unknown"
    log = {"event": "bounce", "reason": said, "bounce_type": "bounce", "timestamp": 1}
    expected = (Outcome.FAILED, R.INVALID_RECIPIENT, "bounce/5.1.1")
    assert event_outcome(log) == expected
    assert event_outcome({"event": "bounced", "reason": said}) == expected
    assert event_outcome({"event": "blocked", "reason": "421 4.7.28 slower"}) == (
        Outcome.FAILED,
        R.RATE_LIMITED,
        "blocked/4.7.28",
    )
    assert event_outcome({"event": "dropped", "reason": "Bounced Address"}) == (
        Outcome.FAILED,
        R.PREVIOUSLY_BOUNCED,
        "dropped/Bounced Address",
    )


@pytest.mark.parametrize("message_id", ["", "x" * 129, "a@b.example", 7, None, ["id"]])
def test_what_is_no_message_id_is_not_kept(message_id: object) -> None:
    kept = event_fields.kept_fields({"event": "delivered", "sg_message_id": message_id})
    assert kept == {"event": "delivered"}

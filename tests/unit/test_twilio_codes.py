"""Every code of the table, an unknown one, and every message status."""

from __future__ import annotations

import pytest

from outreach.failures.twilio import CODES, Effect, rule_for
from outreach.vocabulary import FailureReason, Outcome
from services.sender_sms.codes import STATUSES, status_outcome

R = FailureReason

#: The provider's codes by what they mean for the user, written down a second time on purpose.
EXPECTED: dict[FailureReason, str] = {
    R.INVALID_RECIPIENT: "21211 21217 21214 21604 30005 63003 63024",
    R.UNREACHABLE: "21614 21612 30006 30011 30003",
    R.BLOCKED_BY_CARRIER_OR_SERVER: "30004 30450 30610 30640",
    R.FILTERED_AS_SPAM: "30007 21618 63013 63026",
    R.CONTENT_REJECTED: "21602 21617 21619 30019 21654 21655 21656 63005 63021 63028",
    R.SENDER_NOT_ALLOWED: (
        "21212 21601 21603 21606 21701 21702 21703 21704 21705 30018 30024 30032 30034 30035 63007"
    ),
    R.REGION_NOT_ENABLED: "21408",
    R.ACCOUNT_PROBLEM: "21607 21608 20003 20005 20006 10001 30002 30033 20404",
    R.RATE_LIMITED: "20429 21611 14107 30001 30022 63017 63018 30023 30027 63038",
    R.EXPIRED_IN_QUEUE: "30036",
    R.PROVIDER_ERROR: "30008 30017 30020 30021 30410 63010 20500 20503",
}
OPT_OUTS = ("21610", "63033", "63014")


@pytest.mark.parametrize(
    ("code", "reason"),
    [(code, reason) for reason, codes in EXPECTED.items() for code in codes.split()],
)
def test_each_code_has_its_reason(code: str, reason: FailureReason) -> None:
    assert rule_for(code).reason is reason
    outcome = status_outcome("undelivered", code)
    assert outcome == (Outcome.FAILED, reason, code)


@pytest.mark.parametrize("code", OPT_OUTS)
def test_opt_outs_are_no_failures(code: str) -> None:
    assert rule_for(code).effect is Effect.OPT_OUT
    assert status_outcome("failed", code) == (Outcome.OPTED_OUT, None, code)


def test_no_code_is_left_out() -> None:
    known = {code for codes in EXPECTED.values() for code in codes.split()} | {*OPT_OUTS}
    assert set(CODES) == known


def test_an_unknown_code_is_other_and_kept() -> None:
    assert status_outcome("failed", "12345") == (Outcome.FAILED, FailureReason.OTHER, "12345")
    assert rule_for("12345").effect is Effect.REJECT


def test_a_failure_without_code_keeps_its_status() -> None:
    assert status_outcome("canceled", "") == (Outcome.FAILED, FailureReason.OTHER, "canceled")


def test_only_what_created_nothing_is_tried_again() -> None:
    again = {code for code, rule in CODES.items() if rule.effect is Effect.THROTTLE}
    assert again == {"20429", "21611", "14107"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Outcome.ACCEPTED) for status in ("accepted", "scheduled", "queued")),
        *((status, Outcome.ACCEPTED) for status in ("sending", "sent")),
        *((status, Outcome.DELIVERED) for status in ("delivered", "read", "partially_delivered")),
    ],
)
def test_statuses_prove_what_they_say(status: str, outcome: Outcome) -> None:
    assert status_outcome(status, "") == (outcome, None, "")


def test_statuses_that_are_not_ours_prove_nothing() -> None:
    assert status_outcome("receiving", "") is None
    assert status_outcome("", "") is None
    assert set(STATUSES) == {
        *("accepted", "scheduled", "queued", "sending", "sent"),
        *("delivered", "read", "partially_delivered", "failed", "undelivered", "canceled"),
    }

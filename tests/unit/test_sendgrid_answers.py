"""SendGrid's answers, one by one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from outreach.sending.outcomes import (
    AccountRefused,
    Answer,
    Answered,
    Divided,
    Throttled,
)
from outreach.sending.transport import HttpAnswer
from outreach.vocabulary import FailureReason, Outcome
from services.sender_email.answers import Asked, read_answer
from tests.sendgrid_parts import answer, message

NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
MANY = [message(number) for number in range(1, 6)]


def read(given: HttpAnswer, count: int = 5, *, is_rendered: bool = False) -> Answer:
    return read_answer(Asked(MANY[:count], is_rendered), given, now=NOW)


def told(read: Answer) -> list[tuple[int, Outcome, FailureReason | None, str]]:
    assert isinstance(read, Answered | Divided)
    return [(o.number, o.outcome, o.failure_reason, o.provider_code) for o in read.outcomes]


def parts(read: Answer) -> list[list[int]]:
    assert isinstance(read, Divided)
    return [[one.number for one in part] for part in read.parcels]


@pytest.mark.parametrize(
    ("headers", "message_id"),
    [({"X_Message_Id": "abc.def"}, "abc.def"), ({}, ""), ({"X_Message_Id": "x" * 1_000}, "")],
)
def test_202_accepts_all_with_and_without_an_id(headers: dict[str, str], message_id: str) -> None:
    accepted = read(answer(202, **headers))
    assert isinstance(accepted, Answered)
    assert {one.outcome for one in accepted.outcomes} == {Outcome.ACCEPTED}
    assert [one.number for one in accepted.outcomes] == [1, 2, 3, 4, 5]
    assert {one.provider_message_id for one in accepted.outcomes} == {message_id}


@pytest.mark.parametrize("status", [200, 201, 204, 302, 307, 408, 500, 502, 503, 504])
def test_what_may_stand_after_the_acceptance_is_unknown_for_all(status: int) -> None:
    assert told(read(answer(status))) == [
        (number, Outcome.UNKNOWN, None, f"HTTP {status}") for number in range(1, 6)
    ]


def test_a_400_that_names_recipients_rejects_them_and_sends_the_rest() -> None:
    given = answer(
        400,
        "personalizations.1.to.0.email",
        "personalizations.3.substitutions",
        "personalizations.1.to.0.name",
    )
    divided = read(given)
    assert told(divided) == [
        (
            2,
            Outcome.REJECTED,
            FailureReason.INVALID_RECIPIENT,
            "HTTP 400 personalizations.to.email",
        ),
        (
            4,
            Outcome.REJECTED,
            FailureReason.CONTENT_REJECTED,
            "HTTP 400 personalizations.substitutions",
        ),
    ]
    assert parts(divided) == [[1, 3, 5]]


def test_when_all_are_named_nobody_is_left() -> None:
    given = answer(400, *(f"personalizations.{at}.to.0.email" for at in range(5)))
    assert isinstance(read(given), Answered)
    assert len(told(read(given))) == 5


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [None],
        [""],
        ["personalizations"],
        ["personalizations.5.to.0.email"],
        ["personalizations.99999.to.0.email"],
    ],
)
def test_a_400_that_names_nobody_is_bisected(fields: list[str | None]) -> None:
    assert parts(read(answer(400, *fields))) == [[1, 2], [3, 4, 5]]
    assert told(read(answer(400, *fields), 1)) == [
        (1, Outcome.REJECTED, FailureReason.OTHER, "HTTP 400")
    ]


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("from.email", FailureReason.SENDER_NOT_ALLOWED),
        ("from", FailureReason.SENDER_NOT_ALLOWED),
        ("reply_to.email", FailureReason.SENDER_NOT_ALLOWED),
        ("subject", FailureReason.CONTENT_REJECTED),
        ("content.0.value", FailureReason.CONTENT_REJECTED),
        ("attachments.0.type", FailureReason.CONTENT_REJECTED),
        ("something_new", FailureReason.CONTENT_REJECTED),
        ("personalizationsx.0", FailureReason.CONTENT_REJECTED),
    ],
)
def test_a_400_about_everybodys_field_fails_the_campaign(field: str, reason: FailureReason) -> None:
    refused = read(answer(400, "personalizations.0.to.0.email", field))
    assert isinstance(refused, AccountRefused)
    assert refused.failure_reason is reason
    assert refused.provider_code.startswith("HTTP 400 ")


@pytest.mark.parametrize("field", ["subject", "content.1.value"])
def test_content_made_for_one_recipient_costs_only_that_one(field: str) -> None:
    assert told(read(answer(400, field), 1, is_rendered=True)) == [
        (1, Outcome.REJECTED, FailureReason.CONTENT_REJECTED, f"HTTP 400 {field}".replace(".1", ""))
    ]
    assert isinstance(read(answer(400, "from"), 1, is_rendered=True), AccountRefused)


@pytest.mark.parametrize(
    ("status", "fields", "reason"),
    [
        (401, [None], FailureReason.ACCOUNT_PROBLEM),
        (403, [None], FailureReason.ACCOUNT_PROBLEM),
        (403, ["from"], FailureReason.SENDER_NOT_ALLOWED),
        (404, [None], FailureReason.PROVIDER_ERROR),
        (405, [None], FailureReason.PROVIDER_ERROR),
        (415, [None], FailureReason.PROVIDER_ERROR),
    ],
)
def test_what_refuses_everything_fails_the_campaign(
    status: int, fields: list[str | None], reason: FailureReason
) -> None:
    assert read(answer(status, *fields)) == AccountRefused(reason, f"HTTP {status}")


def test_413_is_halved_until_it_is_the_content() -> None:
    assert parts(read(answer(413))) == [[1, 2], [3, 4, 5]]
    assert told(read(answer(413), 1, is_rendered=True)) == [
        (1, Outcome.REJECTED, FailureReason.CONTENT_REJECTED, "HTTP 413")
    ]
    assert read(answer(413), 1) == AccountRefused(FailureReason.CONTENT_REJECTED, "HTTP 413")


RESET = int(NOW.timestamp()) + 40


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X_RateLimit_Reset": str(RESET)}, 40.0),
        ({"X_RateLimit_Reset": str(RESET), "Date": "Thu, 26 Nov 2026 12:00:30 GMT"}, 10.0),
        ({"X_RateLimit_Reset": str(RESET), "Date": "no date"}, 40.0),
        ({"X_RateLimit_Reset": str(RESET - 100)}, 0.0),
        ({"X_RateLimit_Reset": "soon"}, None),
        ({"X_RateLimit_Reset": "9" * 400}, None),
        ({}, None),
    ],
)
def test_429_says_until_when(headers: dict[str, str], seconds: float | None) -> None:
    assert read(answer(429, None, **headers)) == Throttled(retry_after_seconds=seconds)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b'{"errors": 5}', b'{"errors": [5, {"field": 7}, {}]}'],
)
def test_an_error_body_of_another_kind_names_nothing(body: bytes) -> None:
    headers = CIMultiDictProxy(CIMultiDict[str]())
    assert parts(read(HttpAnswer(400, body, headers))) == [[1, 2], [3, 4, 5]]
    assert isinstance(read(HttpAnswer(403, body, headers)), AccountRefused)


def test_no_address_gets_into_a_code() -> None:
    refused = read(answer(400, "content.<person-1@example.org> " + "x" * 200))
    assert isinstance(refused, AccountRefused)
    assert len(refused.provider_code) <= 64
    assert "@" not in refused.provider_code

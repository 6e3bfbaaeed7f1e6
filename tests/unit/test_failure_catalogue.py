"""The catalogue of failures: nothing is missing in it, and no code means two things."""

from collections import Counter

import pytest

from outreach.failures.catalogue import REASONS, SENDGRID, TWILIO, provider_codes
from outreach.failures.sendgrid import DROPS
from outreach.failures.twilio import CODES, Effect
from outreach.v1.failure_reason_pb2 import FailureReason as WireReason
from outreach.vocabulary import FailureReason, MessageStatus
from services.campaign.domain.failures import is_retryable
from services.campaign.rpc.failures import catalogue


@pytest.mark.parametrize("reason", FailureReason, ids=lambda reason: reason.name)
def test_every_reason_has_text_and_advice(reason: FailureReason) -> None:
    told = REASONS[reason]
    for text in (told.text, told.advice):
        assert text.endswith(".")
        assert text[0].isupper()
        assert len(text) < 120
    assert told.text != told.advice
    assert is_retryable(MessageStatus.FAILED, reason) is told.retryable


def test_the_reasons_that_are_not_worth_a_retry() -> None:
    # Written down a second time on purpose: a retry of these needs force.
    assert {reason for reason, told in REASONS.items() if not told.retryable} == {
        FailureReason.INVALID_RECIPIENT,
        FailureReason.CONTENT_REJECTED,
        FailureReason.MISSING_VARIABLE,
        FailureReason.PREVIOUSLY_BOUNCED,
        FailureReason.UNCONFIRMED,
    }


def test_every_code_means_one_reason() -> None:
    times = Counter((provider, code) for _, provider, code in provider_codes())
    assert {code: number for code, number in times.items() if number > 1} == {}
    twilio = {code for _, provider, code in provider_codes() if provider == TWILIO}
    assert twilio == {code for code, rule in CODES.items() if rule.effect is not Effect.OPT_OUT}
    dropped = {
        code.removeprefix("dropped/")
        for _, provider, code in provider_codes()
        if provider == SENDGRID and code.startswith("dropped/")
    }
    assert dropped == set(DROPS) - {"Unsubscribed Address"}


def test_the_answer_has_every_reason_in_order_with_its_codes() -> None:
    infos = catalogue().reasons
    assert [info.reason for info in infos] == [
        number for number in sorted(WireReason.values()) if number
    ]
    by_reason = {info.reason: info for info in infos}
    invalid = by_reason[FailureReason.INVALID_RECIPIENT.value]  # type: ignore[index] # same numbers
    codes = {(code.provider, code.code) for code in invalid.provider_codes}
    assert {("twilio", "21211"), ("sendgrid", "Invalid Address"), ("sendgrid", "551")} <= codes
    assert sum(len(info.provider_codes) for info in infos) == len([*provider_codes()])

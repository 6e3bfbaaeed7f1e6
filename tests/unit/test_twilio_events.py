"""What inbound messages mean, and how an attempt is found in Twilio's list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.sending.inbox import InboxEntry
from outreach.vocabulary import FailureReason, Outcome
from services.campaign.delivery.opt_outs import opt_out_fault
from services.sender_sms.events import START_KEYWORDS, STOP_KEYWORDS, interpret, opt_out_action
from services.sender_sms.listing import Listed, find_message

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
SERVICE = "MG" + "1" * 32


@pytest.mark.parametrize("word", sorted(STOP_KEYWORDS))
def test_stop_keywords(word: str) -> None:
    assert opt_out_action({"Body": word}) == "STOP"
    assert opt_out_action({"Body": f" {word.lower()}\n"}) == "STOP"
    assert opt_out_action({"Body": f"{word} it"}) is None


@pytest.mark.parametrize("word", sorted(START_KEYWORDS))
def test_start_keywords(word: str) -> None:
    assert opt_out_action({"Body": word.title()}) == "START"


def test_the_keywords_are_twilios() -> None:
    stops = "STOP UNSUBSCRIBE END QUIT STOPALL REVOKE OPTOUT CANCEL"
    starts = "START YES UNSTOP"
    assert set(stops.split()) == STOP_KEYWORDS
    assert set(starts.split()) == START_KEYWORDS


def test_advanced_opt_out_decides_alone() -> None:
    assert opt_out_action({"OptOutType": "STOP", "Body": "arrêt"}) == "STOP"
    assert opt_out_action({"OptOutType": "HELP", "Body": "STOP"}) is None
    assert opt_out_action({"OptOutType": "", "Body": "STOP"}) == "STOP"
    assert opt_out_action({}) is None


@pytest.mark.parametrize(
    ("word", "action"),
    [("STOP", delivery_pb2.OPT_OUT_ACTION_ADD), ("START", delivery_pb2.OPT_OUT_ACTION_REMOVE)],
)
def test_a_reply_that_opts_out_or_in_is_told_as_one(
    word: str, action: delivery_pb2.OptOutAction.ValueType
) -> None:
    fields = {"From": "+41790000001", "Action": word}
    told = interpret(InboxEntry(UUID(int=1), None, fields, datetime(2026, 1, 2, tzinfo=UTC)))
    assert isinstance(told, delivery_pb2.OptOut)
    assert (told.recipient, told.action, told.source) == ("+41790000001", action, "reply")
    assert opt_out_fault(told) is None  # the campaign service takes it


def attempt(*others: str) -> delivery_pb2.UnknownAttempt:
    wanted = delivery_pb2.UnknownAttempt(
        message=delivery_pb2.ClaimedMessage(number=7, attempt=2, recipient="+41790000001"),
        other_provider_message_ids=others,
    )
    wanted.claim_time.FromDatetime(NOW)
    return wanted


def listed(sid: str, **changes: object) -> Listed:
    raw: dict[str, object] = {
        "sid": sid,
        "status": "sent",
        "body": "Hello",
        "from": "+15005550006",
        "messaging_service_sid": SERVICE,
        "error_code": None,
        "num_segments": "2",
        "date_created": format_datetime(NOW),
    }
    return Listed.parse({**raw, **changes})


def find(*messages: Listed, others: tuple[str, ...] = (), sender: str = SERVICE) -> Outcome:
    found = find_message(messages, attempt(*others), body="Hello", sender=sender)
    assert (found.number, found.attempt) == (7, 2)
    return found.outcome


def test_a_match_carries_its_sid_segments_and_status() -> None:
    failed = listed("SM1", status="failed", error_code=30007)
    found = find_message([failed], attempt(), body="Hello", sender=SERVICE)
    assert (found.outcome, found.provider_message_id, found.segments) == (
        Outcome.FAILED,
        "SM1",
        2,
    )
    assert (found.failure_reason, found.provider_code) == (FailureReason.FILTERED_AS_SPAM, "30007")


def test_by_number_or_by_service() -> None:
    assert find(listed("SM1")) is Outcome.ACCEPTED
    assert find(listed("SM1"), sender="+15005550006") is Outcome.ACCEPTED
    assert find(listed("SM1"), sender="+15005550007") is Outcome.NOT_FOUND


def test_what_does_not_match() -> None:
    long_ago = format_datetime(NOW - timedelta(seconds=6))
    assert find() is Outcome.NOT_FOUND
    assert find(listed("SM1", body="Hello ")) is Outcome.NOT_FOUND
    assert find(listed("SM1", date_created=long_ago)) is Outcome.NOT_FOUND
    assert find(listed("SM1"), others=("SM1",)) is Outcome.NOT_FOUND
    assert find(listed("SM1", status="received")) is Outcome.NOT_FOUND


def test_a_little_skew_is_allowed_and_the_earliest_match_is_taken() -> None:
    early = listed("SM1", date_created=format_datetime(NOW - timedelta(seconds=4)))
    late = listed("SM2", date_created=format_datetime(NOW + timedelta(seconds=60)))
    found = find_message([late, early], attempt(), body="Hello", sender=SERVICE)
    assert found.provider_message_id == "SM1"

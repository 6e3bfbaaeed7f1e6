from __future__ import annotations

from typing import Any

from outreach.local.accounting import hold_accounts, hold_email_accounts
from outreach.v1 import message_pb2

DELIVERED = message_pb2.MESSAGE_STATUS_DELIVERED
ASSUMED = message_pb2.MESSAGE_STATUS_ASSUMED_DELIVERED
FAILED = message_pb2.MESSAGE_STATUS_FAILED
OPTED_OUT = message_pb2.MESSAGE_STATUS_OPTED_OUT
SENT = message_pb2.MESSAGE_STATUS_SENT


def message(
    number: int, status: message_pb2.MessageStatus.ValueType, sid: str = ""
) -> message_pb2.Message:
    return message_pb2.Message(number=number, status=status, provider_message_id=sid)


def row(sid: str, final_status: str) -> dict[str, str]:
    return {"sid": sid, "final_status": final_status}


def totals(**changes: Any) -> dict[str, Any]:
    known = {
        "by_final_status": {"delivered": 1, "sent": 1, "undelivered": 1},
        "rejected_by_code": {"21610": 1, "21408": 1},
        "attempts_accepted_more_than_once": 0,
        "recipients_accepted_more_than_once": 0,
    }
    return {**known, **changes}


MESSAGES = [
    message(1, DELIVERED, "SM1"),
    message(2, ASSUMED, "SM2"),
    message(3, FAILED, "SM3"),
    message(4, FAILED),
    message(5, OPTED_OUT),
    message(6, OPTED_OUT),
]
ROWS = [row("SM1", "delivered"), row("SM2", "sent"), row("SM3", "undelivered")]


def test_a_run_that_equals_the_ledger_is_exact() -> None:
    accounts = hold_accounts(MESSAGES, ROWS, totals(), suppressed=1)
    assert accounts.exact
    assert {line.status: (line.ours, line.ledger) for line in accounts.lines} == {
        "DELIVERED": (1, 1),
        "ASSUMED_DELIVERED": (1, 1),
        "FAILED": (2, 2),
        "OPTED_OUT": (2, 2),
    }
    assert accounts.total == 6


def test_a_message_sent_twice_is_not_exact() -> None:
    twice = totals(recipients_accepted_more_than_once=1)
    assert not hold_accounts(MESSAGES, ROWS, twice, suppressed=1).exact


def test_a_message_that_the_provider_never_saw_is_named() -> None:
    messages = [message(1, DELIVERED, "SM9"), *MESSAGES[1:]]
    accounts = hold_accounts(messages, ROWS, totals(), suppressed=1)
    assert not accounts.exact
    assert accounts.differences == (
        "message 1 is DELIVERED; the ledger has no such SID",
        "the ledger accepted SM1, which no message has",
    )


def test_statuses_exchanged_between_two_messages_are_found() -> None:
    # The counts agree, the messages do not.
    messages = [message(1, ASSUMED, "SM1"), message(2, DELIVERED, "SM2"), *MESSAGES[2:]]
    accounts = hold_accounts(messages, ROWS, totals(), suppressed=1)
    assert all(line.equal for line in accounts.lines)
    assert not accounts.exact
    assert len(accounts.differences) == 2


def test_a_message_that_is_not_final_is_not_exact() -> None:
    messages = [message(1, SENT, "SM1"), *MESSAGES[1:]]
    accounts = hold_accounts(messages, ROWS, totals(), suppressed=1)
    assert not accounts.exact
    assert [line.status for line in accounts.lines if not line.equal] == ["DELIVERED", "SENT"]


def test_one_suppression_too_many_is_not_exact() -> None:
    assert not hold_accounts(MESSAGES, ROWS, totals(), suppressed=2).exact


EMAILS = [
    message_pb2.Message(number=1, status=DELIVERED, recipient="A@example.org"),
    message_pb2.Message(number=2, status=FAILED, recipient="b@example.org"),
    message_pb2.Message(number=3, status=OPTED_OUT, recipient="c@example.org"),
    message_pb2.Message(number=4, status=FAILED, recipient="d@example.org"),
]
EMAIL_TOTALS = {
    "attempts_accepted_more_than_once": 0,
    "recipients_accepted_more_than_once": 0,
}


def email_row(email: str, final_event: str, drop_reason: str | None = None) -> dict[str, Any]:
    return {
        "sg_message_id": f"id of {email}",
        "email": email,
        "final_event": final_event,
        "drop_reason": drop_reason,
    }


EMAIL_ROWS = [
    email_row("a@example.org", "delivered"),
    email_row("b@example.org", "bounce"),
    email_row("c@example.org", "dropped", "Unsubscribed Address"),
]
REFUSED = frozenset({"d@example.org"})


def test_an_email_run_that_equals_the_ledger_is_exact() -> None:
    accounts = hold_email_accounts(EMAILS, EMAIL_ROWS, EMAIL_TOTALS, refused=REFUSED)
    assert accounts.exact
    assert {line.status: (line.ours, line.ledger) for line in accounts.lines} == {
        "DELIVERED": (1, 1),
        "FAILED": (2, 2),
        "OPTED_OUT": (1, 1),
    }


def test_an_email_nobody_knows_of_is_a_difference() -> None:
    more = [*EMAIL_ROWS, email_row("x@example.org", "delivered")]
    accounts = hold_email_accounts(EMAILS, more, EMAIL_TOTALS, refused=REFUSED)
    assert len(accounts.differences) == 1
    assert "x@example.org" not in accounts.differences[0].replace("id of x@example.org", "")
    missing = hold_email_accounts(EMAILS, EMAIL_ROWS[1:], EMAIL_TOTALS, refused=REFUSED)
    assert missing.differences == ("message 1 is DELIVERED; by the ledger it is not in it",)
    assert not missing.exact


def test_an_email_that_ended_otherwise_is_a_difference() -> None:
    other = [email_row("a@example.org", "bounce"), *EMAIL_ROWS[1:]]
    accounts = hold_email_accounts(EMAILS, other, EMAIL_TOTALS, refused=REFUSED)
    assert accounts.differences == ("message 1 is DELIVERED; by the ledger it is FAILED",)


def test_an_email_sent_twice_is_not_exact() -> None:
    twice = {**EMAIL_TOTALS, "recipients_accepted_more_than_once": 1}
    assert not hold_email_accounts(EMAILS, EMAIL_ROWS, twice, refused=REFUSED).exact

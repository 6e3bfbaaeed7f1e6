"""How messages are divided before any request."""

from __future__ import annotations

from services.sender_email import limits
from services.sender_email.limits import distinct, fitting, halves
from tests.sendgrid_parts import message

MESSAGES = [message(number) for number in range(1, 8)]


def numbers(parts: list[limits.Messages]) -> list[list[int]]:
    return [[one.number for one in part] for part in parts]


def test_all_that_fits_stays_together() -> None:
    assert numbers(fitting(MESSAGES, [b"x"] * 7, shared_bytes=100)) == [[*range(1, 8)]]
    assert numbers(distinct(MESSAGES)) == [[*range(1, 8)]]


def test_those_without_a_personalization_go_alone_after_the_others() -> None:
    made = [b"x", None, b"x", None, b"x", b"x", b"x"]
    assert numbers(fitting(MESSAGES, made, shared_bytes=100)) == [[1, 3, 5, 6, 7], [2], [4]]
    assert numbers(fitting(MESSAGES[:1], [None], shared_bytes=100)) == [[1]]


def test_a_request_is_filled_to_its_limit_and_not_above() -> None:
    size = 1_000_000
    most = (limits.REQUEST_BYTES_MAX - 27_000_000) // (size + 1)
    assert most == 2
    parts = fitting(MESSAGES, [b"x" * size] * 7, shared_bytes=27_000_000)
    assert numbers(parts) == [[1, 2], [3, 4], [5, 6], [7]]


def test_an_address_occurs_once_in_a_part_whatever_its_case() -> None:
    given = [
        message(number, recipient=recipient)
        for number, recipient in enumerate(
            ["a@x.org", "b@x.org", "A@x.org", "c@X.org", "a@X.ORG"], 1
        )
    ]
    assert numbers(distinct(given)) == [[1, 2, 4], [3], [5]]


def test_those_that_are_tried_once_more_go_apart() -> None:
    messages = [message(number) for number in range(1, 6)]
    assert numbers(limits.alike(messages)) == [[1, 2, 3, 4, 5]]
    for retried in (messages[1], messages[3]):
        retried.is_retry = True
    assert numbers(limits.alike(messages)) == [[2, 4], [1, 3, 5]]
    assert numbers(limits.alike([messages[1], messages[3]])) == [[2, 4]]


def test_halves_lose_nothing() -> None:
    assert numbers(halves(MESSAGES)) == [[1, 2, 3], [4, 5, 6, 7]]
    assert numbers(halves(MESSAGES[:2])) == [[1], [2]]

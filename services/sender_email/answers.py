"""What SendGrid's answer to a `mail/send` means. Pure.

202: all accepted. A 4xx created nothing, for none of the recipients. A 400 names what it minds by
paths: `personalizations.3.to.0.email` is one recipient's, `from.email` everybody's; some name
nothing. The messages in it are not read: they repeat addresses.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

import orjson

from outreach.internal.v1 import delivery_pb2
from outreach.sending.outcomes import (
    AccountRefused,
    Answer,
    Answered,
    AttemptOutcome,
    Divided,
    Throttled,
)
from outreach.sending.transport import HttpAnswer
from outreach.vocabulary import FailureReason, Outcome
from services.sender_email.limits import halves

MESSAGE_ID_HEADER: Final = "X-Message-Id"
RESET_HEADER: Final = "X-RateLimit-Reset"
MESSAGE_ID_CHARACTERS_MAX: Final = 200
CODE_CHARACTERS_MAX: Final = 64

#: Their fields that say who an email is from.
_SENDER_FIELDS: Final = frozenset(("from", "reply_to", "reply_to_list"))
#: Fields that a recipient's own values are in when the content was rendered for them alone.
_RENDERED_FIELDS: Final = frozenset(("subject", "content"))
_RECIPIENT_FIELDS: Final = frozenset(("to", "cc", "bcc"))
_PERSONALIZATION: Final = re.compile(r"personalizations\.([0-9]{1,9})(?:\.(.*))?", re.DOTALL)
_NOT_FOR_CODES: Final = re.compile(r"\.[0-9]+(?=\.|$)|[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Asked:
    """What was in a request. `is_rendered`: its content was made for its only recipient."""

    messages: Sequence[delivery_pb2.ClaimedMessage]
    is_rendered: bool


def outcomes(
    messages: Sequence[delivery_pb2.ClaimedMessage],
    outcome: Outcome,
    *,
    message_id: str = "",
    reason: FailureReason | None = None,
    code: str = "",
) -> list[AttemptOutcome]:
    """The same outcome for all."""
    return [
        AttemptOutcome(message.number, message.attempt, outcome, message_id, reason, code)
        for message in messages
    ]


def read_answer(asked: Asked, answer: HttpAnswer, *, now: datetime) -> Answer:
    """What an answer says of the messages."""
    status = answer.status
    code = f"HTTP {status}"
    if status == 202:
        return accepted(asked, answer.headers.get(MESSAGE_ID_HEADER, ""))
    if status == 429:
        return Throttled(retry_after_seconds=_reset_seconds(answer.headers, now))
    if not 400 <= status < 500 or status == 408:
        # a 5xx may stand before or after the acceptance; anything else is not SendGrid's protocol
        return unknown(asked, code)
    if status == 413:
        return _too_large(asked, code)
    fields = [*_error_fields(answer.body)]
    if status in (401, 403):
        is_sender = any(_root(field) in _SENDER_FIELDS for field in fields)
        reason = FailureReason.SENDER_NOT_ALLOWED if is_sender else FailureReason.ACCOUNT_PROBLEM
        return AccountRefused(reason, code)
    if status != 400:
        return AccountRefused(FailureReason.PROVIDER_ERROR, code)
    return _refused(asked, fields, code)


def accepted(asked: Asked, message_id: str) -> Answered:
    """The request was taken; the id is the same for all of it, and may be missing."""
    is_id = len(message_id) <= MESSAGE_ID_CHARACTERS_MAX
    return Answered(
        outcomes(asked.messages, Outcome.ACCEPTED, message_id=message_id if is_id else "")
    )


def unknown(asked: Asked, code: str = "") -> Answered:
    """The request may have been taken."""
    return Answered(outcomes(asked.messages, Outcome.UNKNOWN, code=code))


def _too_large(asked: Asked, code: str) -> Answer:
    if len(asked.messages) > 1:
        return Divided([], halves(asked.messages))
    if asked.is_rendered:
        return _rejected(asked, FailureReason.CONTENT_REJECTED, code)
    # one short personalization: it is the content that is too large, for everybody
    return AccountRefused(FailureReason.CONTENT_REJECTED, code)


def _refused(asked: Asked, fields: Sequence[str], code: str) -> Answer:
    """A 400: for everybody's field the campaign fails; named recipients are rejected and the others
    sent; when none is named, one half and then the other.
    """
    named: dict[int, tuple[FailureReason, str]] = {}
    for field in fields:
        found = _PERSONALIZATION.fullmatch(field)
        if found is not None and int(found[1]) < len(asked.messages):
            named.setdefault(int(found[1]), (_recipient_reason(found[2] or ""), field))
        elif _root(field) != "personalizations":
            return _refused_for_all(asked, field, code)
    if named:
        rejected = [
            outcome
            for at, (reason, field) in named.items()
            for outcome in outcomes(
                [asked.messages[at]], Outcome.REJECTED, reason=reason, code=_code(code, field)
            )
        ]
        others = [message for at, message in enumerate(asked.messages) if at not in named]
        return Divided(rejected, [others]) if others else Answered(rejected)
    if len(asked.messages) > 1:
        return Divided([], halves(asked.messages))
    return _rejected(asked, FailureReason.OTHER, code)


def _refused_for_all(asked: Asked, field: str, code: str) -> Answer:
    root = _root(field)
    code = _code(code, field)
    if root in _SENDER_FIELDS:
        return AccountRefused(FailureReason.SENDER_NOT_ALLOWED, code)
    if asked.is_rendered and root in _RENDERED_FIELDS:
        return _rejected(asked, FailureReason.CONTENT_REJECTED, code)
    return AccountRefused(FailureReason.CONTENT_REJECTED, code)


def _rejected(asked: Asked, reason: FailureReason, code: str) -> Answered:
    return Answered(outcomes(asked.messages, Outcome.REJECTED, reason=reason, code=code))


def _recipient_reason(path: str) -> FailureReason:
    is_address = not path or _root(path) in _RECIPIENT_FIELDS
    return FailureReason.INVALID_RECIPIENT if is_address else FailureReason.CONTENT_REJECTED


def _root(field: str) -> str:
    return field.partition(".")[0]


def _code(code: str, field: str) -> str:
    """`HTTP 400 personalizations.to.email`: the path without its numbers."""
    return f"{code} {_NOT_FOR_CODES.sub('', field)}"[:CODE_CHARACTERS_MAX]


def _error_fields(body: bytes) -> Iterator[str]:
    """The paths that an error body names."""
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    errors = raw.get("errors") if isinstance(raw, Mapping) else None
    for error in errors if isinstance(errors, list) else ():
        field = error.get("field") if isinstance(error, Mapping) else None
        if isinstance(field, str) and field:
            yield field


def _reset_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """From now to the reset of the rate limit, by the provider's own clock where it tells it."""
    reset = headers.get(RESET_HEADER, "")
    if not reset.isdecimal() or len(reset) > 12:
        return None
    try:
        told = parsedate_to_datetime(headers.get("Date", ""))
        now_seconds = told.timestamp()
    except ValueError:
        now_seconds = now.timestamp()
    return max(0.0, int(reset) - now_seconds)

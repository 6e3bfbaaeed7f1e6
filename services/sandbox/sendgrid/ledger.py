"""Every email the sandbox accepted: the oracle of the tests.

One row a recipient, numbered from 0 in the order of acceptance, in columns of plain arrays. What
was asked for (content, substitutions, custom arguments) is in the journal: one record a request,
and one for each content, however many requests have the same.
"""

import secrets
from array import array
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from services.sandbox.journal import Journal
from services.sandbox.sendgrid import ids
from services.sandbox.sendgrid.fates import (
    COMPLAINTS,
    DETAILS,
    OUTCOMES,
    Complaint,
    EmailFate,
    FinalEvent,
    Outcome,
    final_event,
)
from services.sandbox.sendgrid.rendering import RenderedEmail, custom_args, rendered
from services.sandbox.sendgrid.schedule import Timing
from services.sandbox.sendgrid.suppressions import Suppressions
from services.sandbox.sendgrid.validation import Draft

_DETAIL_INDEX = {detail: at for at, detail in enumerate(DETAILS)}
_OUTCOME_INDEX = {outcome: at for at, outcome in enumerate(OUTCOMES)}
_COMPLAINT_INDEX = {complaint: at for at, complaint in enumerate(COMPLAINTS)}

# Names that SendGrid's own fields of an event have: a custom argument of such a name is not told.
_RESERVED_ARGS = frozenset(
    {"email", "timestamp", "event", "sg_event_id", "sg_message_id", "smtp-id", "category"}
    | {"asm_group_id", "response", "reason", "status", "type", "tls", "ip"}
    | {"bounce_classification", "url", "url_offset", "useragent", "sg_machine_open"}
)

ATTEMPT_ARGS = ("attempt_id", "attempt")
"""The custom arguments that may name the sender's attempt; the first that is there counts.

`deferred` events have a field `attempt` of their own, which hides an argument of that name.
"""


class Row(NamedTuple):
    """An email in the ledger, as the oracle shows it."""

    number: int
    sg_message_id: str
    email: str
    attempt: str | None
    status: str
    final_event: str
    bounce_classification: str | None
    drop_reason: str | None
    complaint: str | None
    accepted_count: int
    arrived: float


class _Request(NamedTuple):
    first_number: int
    offset: int
    arrived: float
    created: float
    message_id: str
    timing: Timing
    content: bytes
    shared_fields: bytes


class EmailLedger:
    """The emails, the suppression lists, the first tries and the counts; all outlive a kill."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.suppressions = Suppressions(journal)
        self._empty()
        for offset, record in journal.replay():
            self._apply(offset, record)
        if not self.salt:
            self.reset()

    def _empty(self) -> None:
        self.salt = b""
        self.suppressions.empty()
        self._requests: list[_Request] = []
        self._contents: dict[bytes, int] = {}
        self._emails: list[str] = []
        self._attempts: list[str | None] = []
        self._request = array("I")
        self._personalization = array("H")
        self._outcome = array("B")
        self._detail = array("B")
        self._complaint = array("B")
        self._reordered = array("B")
        self._steps = array("I")
        self._fields_missing = array("H")
        self._pending = array("I")
        self._delay = array("f")
        self._previous = array("i")
        self._last_by_email: dict[str, int] = {}
        self._last_by_attempt: dict[str, int] = {}
        self._accepted_again: dict[str, int] = {}
        self._recipients_accepted_again: set[str] = set()
        self._args: dict[int, bytes] = {}
        self._tried: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._by_final_event: Counter[str] = Counter()
        self._by_detail: Counter[str] = Counter()
        self._by_complaint: Counter[str] = Counter()
        self.event_url: tuple[str | None, str | None] = (None, None)
        self._record_read: tuple[int, list[Any]] | None = None
        self._shared_read: tuple[bytes, dict[str, Any]] | None = None

    def _apply(self, offset: int, record: list[Any]) -> None:
        match record:
            case ["content", digest, _]:
                self._contents[bytes.fromhex(digest)] = offset
            case ["sent", created, digest, timing, personalizations, rows, *arrived]:
                # A journal of an earlier version does not say when the request arrived.
                times = (arrived[0] if arrived else created, created)
                shared = self._read_shared(bytes.fromhex(digest))
                self._add(offset, times, bytes.fromhex(digest), Timing(*timing), shared,
                          personalizations, rows)  # fmt: skip
            case ["done", numbers, masks]:
                for number, mask in zip(numbers, masks, strict=True):
                    self._clear_pending(number, mask)
            case ["counted", kind]:
                self._counts[kind] += 1
            case ["tried", email]:
                self._tried.add(email)
            case ["event_url", initial, current]:
                self.event_url = (initial, current)
            case ["salt", salt]:
                self.salt = bytes.fromhex(salt)
            case _:
                self.suppressions.apply(record)

    def reset(self) -> None:
        """Forget all emails, suppressions and tries; old ids never come again."""
        event_url = self.event_url
        self._journal.clear()
        self._empty()
        self.salt = secrets.token_bytes(16)
        self._journal.append(["salt", self.salt.hex()])
        if event_url != (None, None):
            self.set_event_url(*event_url)

    def __len__(self) -> int:
        return len(self._emails)

    # Writing

    def accept(
        self,
        draft: Draft,
        fates: list[list[EmailFate]],
        times: tuple[float, float],
        timing: Timing,
    ) -> range:
        """Numbers of the request's recipients, which are in the journal from here on.

        `fates`: in the order of `draft.recipients`; `times`: when the request had been read, and
        when it was accepted (or is to be sent, if that is later).
        """
        digest = self._keep_content(draft.shared)
        rows = [
            [
                emails[place],
                at,
                _OUTCOME_INDEX[fate.outcome],
                _DETAIL_INDEX[fate.detail],
                _COMPLAINT_INDEX[fate.complaint],
                fate.steps & ~fate.lost | fate.duplicated << 16,
                fate.steps,
                fate.fields_missing,
                int(fate.reordered),
                fate.delay_seconds,
            ]
            for at, emails in enumerate(draft.recipients)
            for place, fate in enumerate(fates[at])
        ]
        arrived, created = times
        record = [
            "sent", created, digest.hex(), list(timing), draft.personalizations, rows, arrived,
        ]  # fmt: skip
        offset = self._journal.append(record)
        first = len(self)
        self._add(offset, times, digest, timing, draft.shared, draft.personalizations, rows)
        return range(first, len(self))

    def _keep_content(self, shared: dict[str, Any]) -> bytes:
        body = orjson.dumps(shared)
        digest = blake2b(body, digest_size=16).digest()
        if digest not in self._contents:
            self._contents[digest] = self._journal.append(["content", digest.hex(), shared])
        return digest

    def _add(
        self,
        offset: int,
        times: tuple[float, float],
        digest: bytes,
        timing: Timing,
        shared: dict[str, Any],
        personalizations: list[dict[str, Any]],
        rows: list[list[Any]],
    ) -> None:
        request = len(self._requests)
        message = ids.message_id(request, self.salt)
        fields = _shared_fields(shared)
        self._requests.append(_Request(len(self), offset, *times, message, timing, digest, fields))
        args = [custom_args(shared, one) for one in personalizations]
        fragments = [_fragment(one) for one in args]
        attempts_of_request: set[str] = set()
        for email, at, outcome, detail, complaint, posted, steps, missing, reordered, delay in rows:
            number = len(self._emails)
            self._emails.append(email)
            self._request.append(request)
            self._personalization.append(at)
            self._outcome.append(outcome)
            self._detail.append(detail)
            self._complaint.append(complaint)
            self._reordered.append(reordered)
            self._steps.append(steps)
            self._fields_missing.append(missing)
            self._pending.append(posted)
            self._delay.append(delay)
            self._index(number, email, _attempt_of(args[at]), attempts_of_request)
            if posted:
                self._args[number] = fragments[at]
            event = final_event(OUTCOMES[outcome], steps)
            self._by_final_event[event] += 1
            if detail:
                self._by_detail[DETAILS[detail]] += 1
            if complaint:
                self._by_complaint[COMPLAINTS[complaint]] += 1

    def _index(
        self, number: int, email: str, attempt: str | None, attempts_of_request: set[str]
    ) -> None:
        key = email.lower()
        previous = self._last_by_email.get(key, -1)
        self._previous.append(previous)
        self._last_by_email[key] = number
        if previous >= 0:
            self._recipients_accepted_again.add(key)
        self._attempts.append(attempt)
        if attempt is not None:
            # Copies of one personalization are one email.
            if attempt in self._last_by_attempt and attempt not in attempts_of_request:
                self._accepted_again[attempt] = self._accepted_again.get(attempt, 1) + 1
            attempts_of_request.add(attempt)
            self._last_by_attempt[attempt] = number

    def count(self, kind: str) -> None:
        """Count a request that ended otherwise than with a 202."""
        self._journal.append(["counted", kind])
        self._counts[kind] += 1

    def first_try(self, email: str) -> bool:
        """Whether this is the first request that begins with this address; the next says no."""
        key = email.lower()
        if key in self._tried:
            return False
        self._journal.append(["tried", key])
        self._tried.add(key)
        return True

    def set_event_url(self, initial: str | None, current: str | None) -> None:
        """Keep where events go, and what the settings had said when it was set."""
        self._journal.append(["event_url", initial, current])
        self.event_url = (initial, current)

    def events_done(self, items: list[tuple[int, int]]) -> None:
        """Note that events are posted or given up: numbers, and masks of steps as in `pending`."""
        self._journal.append(["done", [n for n, _ in items], [mask for _, mask in items]])
        for number, mask in items:
            self._clear_pending(number, mask)

    def _clear_pending(self, number: int, mask: int) -> None:
        left = self._pending[number] & ~mask
        self._pending[number] = left
        if not left:
            self._args.pop(number, None)

    # Reading

    def number_of(self, message_id: str) -> int | None:
        """Number of the email with this `sg_message_id` (of a request's first with its id)."""
        found = ids.parsed(message_id, self.salt)
        if found is None or found[0] >= len(self._requests):
            return None
        request, index = found
        number = self._requests[request].first_number + (index or 0)
        inside = number < len(self) and self._request[number] == request
        return number if inside else None

    def numbers_of_request(self, message_id: str) -> range:
        """Numbers of all recipients of the request with this `X-Message-Id`."""
        found = ids.parsed(message_id[:22], self.salt)
        if found is None or found[0] >= len(self._requests):
            return range(0)
        request = found[0]
        after = request + 1
        first = self._requests[request].first_number
        last = self._requests[after].first_number if after < len(self._requests) else len(self)
        return range(first, last)

    def email(self, number: int) -> str:
        return self._emails[number]

    def attempt(self, number: int) -> str | None:
        return self._attempts[number]

    def message_id(self, number: int) -> str:
        """`X-Message-Id` of the email's request."""
        return self._requests[self._request[number]].message_id

    def index(self, number: int) -> int:
        """Place of the recipient in its request."""
        return number - self._requests[self._request[number]].first_number

    def sg_message_id(self, number: int) -> str:
        request = self._requests[self._request[number]]
        return ids.sg_message_id(request.message_id, request.created, number - request.first_number)

    def created(self, number: int) -> float:
        """When it was accepted, or is to be sent if that is later; seconds since the epoch."""
        return self._requests[self._request[number]].created

    def timing(self, number: int) -> Timing:
        return self._requests[self._request[number]].timing

    def outcome(self, number: int) -> Outcome:
        return OUTCOMES[self._outcome[number]]

    def detail(self, number: int) -> str:
        return DETAILS[self._detail[number]]

    def complaint(self, number: int) -> Complaint:
        return COMPLAINTS[self._complaint[number]]

    def steps(self, number: int) -> int:
        """Mask of the events that happen, whether they are posted or not."""
        return self._steps[number]

    def delay(self, number: int) -> float:
        return self._delay[number]

    def reordered(self, number: int) -> bool:
        return bool(self._reordered[number])

    def lacks_fields(self, number: int, step: int) -> bool:
        return bool(self._fields_missing[number] >> step & 1)

    def pending(self, number: int) -> int:
        """Mask of the events still to be posted; bit 16 + n: step n a second time."""
        return self._pending[number]

    def event_fields(self, number: int) -> tuple[bytes, bytes]:
        """JSON of the event fields that are the request's, and of the custom arguments."""
        fields = self._requests[self._request[number]].shared_fields
        args = self._args.get(number)
        if args is None:
            args = _fragment(custom_args(*self._parts(number)))
        return fields, args

    def rendered(self, number: int) -> RenderedEmail:
        """What the recipient got."""
        return rendered(*self._parts(number))

    def _parts(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        request = self._request[number]
        personalizations = self._record(request)[4]
        shared = self._read_shared(self._requests[request].content)
        return shared, personalizations[self._personalization[number]]

    def _record(self, request: int) -> list[Any]:
        # Neighbours are mostly asked for together.
        if self._record_read is None or self._record_read[0] != request:
            self._record_read = (request, self._journal.read(self._requests[request].offset))
        return self._record_read[1]

    def _read_shared(self, digest: bytes) -> dict[str, Any]:
        if self._shared_read is None or self._shared_read[0] != digest:
            self._shared_read = (digest, self._journal.read(self._contents[digest])[2])
        return self._shared_read[1]

    def row(self, number: int, status: str) -> Row:
        """The email as the oracle shows it; `status`: the type of its last event."""
        attempt, detail, outcome = self._attempts[number], self.detail(number), self.outcome(number)
        dropped = outcome is Outcome.DROPPED
        return Row(
            number=number,
            sg_message_id=self.sg_message_id(number),
            email=self._emails[number],
            attempt=attempt,
            status=status,
            final_event=self.final_event(number),
            bounce_classification=(detail or None) if not dropped else None,
            drop_reason=detail if dropped else None,
            complaint=self.complaint(number) or None,
            accepted_count=self.accepted_count(attempt) if attempt else 1,
            arrived=self._requests[self._request[number]].arrived,
        )

    def final_event(self, number: int) -> FinalEvent:
        return final_event(self.outcome(number), self._steps[number])

    def newest_first(self, email: str | None = None) -> Iterator[int]:
        """Numbers downwards; only those to `email` if given."""
        if email is None:
            yield from range(len(self) - 1, -1, -1)
            return
        number = self._last_by_email.get(email.lower(), -1)
        while number >= 0:
            yield number
            number = self._previous[number]

    def last_of_attempt(self, attempt: str) -> int | None:
        return self._last_by_attempt.get(attempt)

    def accepted_count(self, attempt: str) -> int:
        """How often this attempt was accepted."""
        return self._accepted_again.get(attempt, int(attempt in self._last_by_attempt))

    def totals(self) -> dict[str, Any]:
        """The ledger in numbers."""
        return {
            "accepted": len(self),
            "requests": len(self._requests),
            "distinct_recipients": len(self._last_by_email),
            "distinct_attempts": len(self._last_by_attempt),
            "attempts_accepted_more_than_once": len(self._accepted_again),
            "recipients_accepted_more_than_once": len(self._recipients_accepted_again),
            "by_final_event": dict(self._by_final_event),
            "by_detail": dict(self._by_detail),
            "by_complaint": dict(self._by_complaint),
            "requests_refused": dict(sorted(self._counts.items())),
            "suppressed": self.suppressions.counts(),
            "emails_with_pending_events": len(self._args),
        }


def _attempt_of(args: dict[str, str]) -> str | None:
    return next((args[name] for name in ATTEMPT_ARGS if name in args), None)


def _shared_fields(shared: dict[str, Any]) -> bytes:
    fields: dict[str, Any] = {}
    if shared.get("categories"):
        fields["category"] = shared["categories"]
    if shared.get("asm"):
        fields["asm_group_id"] = shared["asm"]["group_id"]
    return b"," + orjson.dumps(fields)[1:-1] if fields else b""


def _fragment(fields: dict[str, Any]) -> bytes:
    """The custom arguments as members of an event, each with a comma in front."""
    kept = {name: value for name, value in fields.items() if name not in _RESERVED_ARGS}
    return b"," + orjson.dumps(kept)[1:-1] if kept else b""

"""Everything the sandbox accepted: the oracle of the tests.

Columns of plain arrays, because a run has 300,000 messages: what only an answer shows (the body,
the callback's URL) stays in the journal. Messages are numbered from 0 in the order of acceptance.
"""

import re
import secrets
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from services.sandbox.fates import FINAL_STEP, STEPS, Fate, FinalStatus
from services.sandbox.journal import Journal

_FINAL_STATUSES: tuple[FinalStatus, ...] = ("delivered", "undelivered", "failed", "sent")
_WITH_SERVICE, _REORDERED, _NEVER_SENT = 1, 2, 4

# When a step happens, as a part of the time from acceptance to the final status.
_STEP_AT = (0.1, 0.25, 0.5, 1.0)

_SID = re.compile(r"SM[0-9a-f]{32}")

SENT_STEP = STEPS.index("sent")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message as it was accepted; `callback` is empty when none was asked for.

    `arrived`: when its request had been read; `created`, when it was accepted, is later by a latency.
    `steps`: bit mask over STEPS of the callbacks to make; `steps_twice`: of those made twice.
    """

    arrived: float
    created: float
    to: str
    body: str
    sender: str
    with_service: bool
    callback: str
    segments: int
    fate: Fate
    steps: int
    steps_twice: int


class Contents(NamedTuple):
    """What only the journal keeps of a message."""

    body: str
    sender: str
    callback: str


class Row(NamedTuple):
    """A message in the ledger, as the oracle shows it."""

    number: int
    sid: str
    to: str
    attempt: str | None
    status: str
    final_status: str
    error_code: int | None
    accepted_count: int
    arrived: float


def attempt_of(callback: str) -> str | None:
    """The attempt that a callback URL names: the last segment of its path."""
    path = callback.partition("#")[0].partition("?")[0]
    return path.rpartition("/")[2] or None


class MessageLedger:
    """The messages, the opt-outs, the first tries and the counts; all survive in the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._empty()
        for offset, record in journal.replay():
            self._apply(offset, record)
        if not self._salt:
            self.reset()

    def _empty(self) -> None:
        self._salt = b""
        self._to = array("Q")
        self._arrived = array("d")
        self._created = array("d")
        self._delay = array("f")
        self._final = array("B")
        self._code = array("H")
        self._flags = array("B")
        self._segments = array("B")
        self._steps = array("B")
        self._pending = array("B")
        self._offset = array("Q")
        self._previous = array("i")
        self._attempts: list[str | None] = []
        self._accepted_by_attempt: dict[str, int] = {}
        self._last_by_to: dict[int, int] = {}
        self._tried: set[int] = set()
        self.opted_out: set[str] = set()
        self._counts: Counter[tuple[str, int]] = Counter()
        self._by_final_status: Counter[str] = Counter()
        self._by_code: Counter[int] = Counter()
        self._attempts_accepted_again = 0
        self._recipients_accepted_again: set[int] = set()

    def _apply(self, offset: int, record: list[Any]) -> None:
        match record:
            case ["accepted", created, to, _, _, callback, segments, delay, columns, *arrived]:
                # A journal of an earlier version does not say when the request arrived.
                times = (arrived[0] if arrived else created, created)
                self._add(offset, times, to, attempt_of(callback), segments, delay, columns)
            case ["done", numbers]:
                for number in numbers:
                    self._pending[number] = 0
            case ["counted", kind, code]:
                self._counts[kind, code] += 1
            case ["tried", to]:
                self._tried.add(_digits(to))
            case ["opted_out", number, opted_out]:
                (self.opted_out.add if opted_out else self.opted_out.discard)(number)
            case ["salt", salt]:
                self._salt = bytes.fromhex(salt)
            case _:
                pass  # of another room or version

    def reset(self) -> None:
        """Forget all messages, opt-outs and tries; old SIDs never come again."""
        self._journal.clear()
        self._empty()
        self._salt = secrets.token_bytes(16)
        self._journal.append(["salt", self._salt.hex()])

    def __len__(self) -> int:
        return len(self._attempts)

    # Writing

    def accept(self, message: Accepted) -> int:
        """Number of the message, which is in the journal from here on."""
        fate = message.fate
        flags = (
            (_WITH_SERVICE if message.with_service else 0)
            | (_REORDERED if fate.reordered else 0)
            | (_NEVER_SENT if fate.final_status == "failed" else 0)
        )
        steps = message.steps | message.steps_twice << 4
        columns = [
            _FINAL_STATUSES.index(fate.final_status), fate.error_code, flags, steps,
            message.steps.bit_count() + message.steps_twice.bit_count(),
        ]  # fmt: skip
        delay = fate.final_delay_seconds
        offset = self._journal.append(
            [
                "accepted",
                message.created,
                message.to,
                message.body,
                message.sender,
                message.callback,
                message.segments,
                delay,
                columns,
                message.arrived,
            ]
        )
        attempt = attempt_of(message.callback)
        times = (message.arrived, message.created)
        self._add(offset, times, message.to, attempt, message.segments, delay, columns)
        return len(self) - 1

    def _add(
        self,
        offset: int,
        times: tuple[float, float],
        to: str,
        attempt: str | None,
        segments: int,
        delay: float,
        columns: list[int],
    ) -> None:
        number, digits = len(self), _digits(to)
        final, code, flags, steps, pending = columns
        self._to.append(digits)
        self._arrived.append(times[0])
        self._created.append(times[1])
        self._delay.append(delay)
        self._final.append(final)
        self._code.append(code)
        self._flags.append(flags)
        self._segments.append(segments)
        self._steps.append(steps)
        self._pending.append(pending)
        self._offset.append(offset)
        previous = self._last_by_to.get(digits, -1)
        self._previous.append(previous)
        self._last_by_to[digits] = number
        if previous >= 0:
            self._recipients_accepted_again.add(digits)
        self._attempts.append(attempt)
        if attempt is not None:
            accepted_before = self._accepted_by_attempt.get(attempt, 0)
            self._accepted_by_attempt[attempt] = accepted_before + 1
            self._attempts_accepted_again += accepted_before == 1
        self._by_final_status[_FINAL_STATUSES[final]] += 1
        if code:
            self._by_code[code] += 1

    def count(self, kind: str, code: int = 0) -> None:
        """Count a create that ended otherwise than with the message in the answer."""
        self._journal.append(["counted", kind, code])
        self._counts[kind, code] += 1

    def first_try(self, to: str) -> bool:
        """Whether this is the first create for the number; the next call says no."""
        digits = _digits(to)
        if digits in self._tried:
            return False
        self._journal.append(["tried", to])
        self._tried.add(digits)
        return True

    def opt(self, number: str, *, out: bool) -> None:
        """Record that a recipient opted out, or in again."""
        self._journal.append(["opted_out", number, out])
        (self.opted_out.add if out else self.opted_out.discard)(number)

    def callback_done(self, number: int) -> bool:
        """Note that one of the message's callbacks is over; says whether it was the last."""
        if self._pending[number]:
            self._pending[number] -= 1
        return not self._pending[number]

    def note_done(self, numbers: list[int]) -> None:
        """Journal that these messages have no callback left."""
        self._journal.append(["done", numbers])

    # Reading

    def sid(self, number: int) -> str:
        """SID of a message: unguessable, and found again without an index."""
        mark = blake2b(number.to_bytes(4, "big"), key=self._salt, digest_size=12).hexdigest()
        return f"SM{mark}{number:08x}"

    def number_of(self, sid: str) -> int | None:
        """Number of the message with this SID."""
        if not _SID.fullmatch(sid):
            return None
        number = int(sid[-8:], 16)
        return number if number < len(self) and self.sid(number) == sid else None

    def to(self, number: int) -> str:
        return f"+{self._to[number]}"

    def created(self, number: int) -> float:
        """When it was accepted, in seconds since the epoch."""
        return self._created[number]

    def with_service(self, number: int) -> bool:
        return bool(self._flags[number] & _WITH_SERVICE)

    def segments(self, number: int) -> int:
        return self._segments[number]

    def contents(self, number: int) -> Contents:
        record = self._journal.read(self._offset[number])
        return Contents(body=record[3], sender=record[4], callback=record[5])

    def final_status(self, number: int) -> FinalStatus:
        return _FINAL_STATUSES[self._final[number]]

    def status(self, number: int, now: float) -> tuple[str, int]:
        """Status and error code (0: none) at this time."""
        elapsed, delay = now - self._created[number], self._delay[number]
        if elapsed >= delay:
            return self.final_status(number), self._code[number]
        service = self._flags[number] & _WITH_SERVICE
        if self._flags[number] & _NEVER_SENT or elapsed < delay * _STEP_AT[1]:
            first = service and elapsed < delay * _STEP_AT[0]
            return ("accepted" if first else "queued"), 0
        return ("sending" if elapsed < delay * _STEP_AT[SENT_STEP] else "sent"), 0

    def sent_at(self, number: int) -> float | None:
        """When it reached the carrier; none if it never does."""
        if self._flags[number] & _NEVER_SENT:
            return None
        return self._created[number] + self._delay[number] * _STEP_AT[SENT_STEP]

    def step_status(self, number: int, step: int) -> tuple[str, int]:
        """The status and error code that the callback of a step tells."""
        if step == FINAL_STEP:
            return self.final_status(number), self._code[number]
        return STEPS[step], 0

    def callbacks(self, number: int) -> list[tuple[float, int]]:
        """When (seconds since the epoch) to make which callbacks (index in STEPS)."""
        mask = self._steps[number]
        if not mask or not self._pending[number]:
            return []
        steps = [step for step in range(4) if mask >> step & 1]
        times = [_STEP_AT[step] for step in steps]
        if self._flags[number] & _REORDERED:
            times.reverse()
        created, delay = self._created[number], self._delay[number]
        due = [(created + delay * at, step) for at, step in zip(times, steps, strict=True)]
        return due + [(at, step) for at, step in due if mask >> (4 + step) & 1]

    def has_pending_callbacks(self, number: int) -> bool:
        return self._pending[number] > 0

    def newest_first(self, to: str | None, below: int) -> Iterator[int]:
        """Numbers less than `below`, downwards; only those to `to` if given."""
        if to is None:
            yield from range(min(below, len(self)) - 1, -1, -1)
            return
        digits = to[1:]
        number = self._last_by_to.get(int(digits), -1) if digits.isdecimal() else -1
        while number >= 0:
            if number < below:
                yield number
            number = self._previous[number]

    def row(self, number: int, now: float) -> Row:
        attempt = self._attempts[number]
        return Row(
            number=number,
            sid=self.sid(number),
            to=self.to(number),
            attempt=attempt,
            status=self.status(number, now)[0],
            final_status=self.final_status(number),
            error_code=self._code[number] or None,
            accepted_count=self._accepted_by_attempt[attempt] if attempt else 1,
            arrived=self._arrived[number],
        )

    def totals(self) -> dict[str, Any]:
        """The ledger in numbers."""
        rejected = {code: n for (kind, code), n in self._counts.items() if kind == "rejected"}
        return {
            "accepted": len(self),
            "distinct_recipients": len(self._last_by_to),
            "distinct_attempts": len(self._accepted_by_attempt),
            "attempts_accepted_more_than_once": self._attempts_accepted_again,
            "recipients_accepted_more_than_once": len(self._recipients_accepted_again),
            "by_final_status": dict(self._by_final_status),
            "by_error_code": {str(code): n for code, n in sorted(self._by_code.items())},
            "rejected": sum(rejected.values()),
            "rejected_by_code": {str(code): n for code, n in sorted(rejected.items())},
            "throttled": self._counted("http_429"),
            "unavailable": self._counted("unavailable"),
            "http_500_before_accept": self._counted("http_500_before_accept"),
            "http_500_after_accept": self._counted("http_500_after_accept"),
            "dropped_before_accept": self._counted("drop_before_accept"),
            "dropped_after_accept": self._counted("drop_after_accept"),
            "opted_out_recipients": len(self.opted_out),
            "messages_with_pending_callbacks": len(self) - self._pending.count(0),
        }

    def _counted(self, kind: str) -> int:
        return sum(n for (counted, _), n in self._counts.items() if counted == kind)


def _digits(to: str) -> int:
    return int(to[1:])

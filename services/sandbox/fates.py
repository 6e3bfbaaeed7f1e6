"""What becomes of a recipient: a pure function of the knobs, the seed and the number.

Nothing here depends on the order or the time of calls, so the final counts of a run can be computed
before it, and hold whatever is killed and restarted on the way.
"""

import struct
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import Generic, Literal, TypeVar

from services.sandbox.knobs import Knobs

# Twilio gives up on these before handing the message to a carrier: `failed`, and never `sent`.
# The other asynchronous codes come back from the carrier: `sent`, then `undelivered`.
FAILED_BEFORE_SENT = frozenset(
    {30001, 30002, 30010, 30018, 30022, 30023, 30024, 30027, 30032, 30033, 30034, 30035, 30036}
    | {30410, 30450, 30610, 30640, 63017, 63018, 63038}
)

T = TypeVar("T")

FinalStatus = Literal["delivered", "undelivered", "failed", "sent"]

STEPS = ("queued", "sending", "sent", "final")
"""The steps that may have a callback, in order; a bit mask of steps has bit n for STEPS[n]."""

FINAL_STEP = 3


class TransportFault(StrEnum):
    """What goes wrong with the first create for a number."""

    HTTP_429 = "http_429"
    HTTP_500_BEFORE_ACCEPT = "http_500_before_accept"
    DROP_BEFORE_ACCEPT = "drop_before_accept"
    HTTP_500_AFTER_ACCEPT = "http_500_after_accept"
    DROP_AFTER_ACCEPT = "drop_after_accept"

    @property
    def accepts(self) -> bool:
        """Whether the message is accepted although the caller does not hear of it."""
        return self in (self.HTTP_500_AFTER_ACCEPT, self.DROP_AFTER_ACCEPT)


@dataclass(frozen=True, slots=True)
class Fate:
    """What a number will get.

    `rejected_code`: refused at once with this Twilio code, and nothing below ever happens.
    `transport_fault`: what goes wrong on the first try only.
    `final_status`, `error_code`: how an accepted message ends (0: no error).
    `lost_steps`, `duplicated_steps`: bit masks over STEPS.
    `final_delay_seconds`: from acceptance to the final status.
    """

    rejected_code: int | None
    transport_fault: TransportFault | None
    final_status: FinalStatus
    error_code: int
    early: bool
    reordered: bool
    lost_steps: int
    duplicated_steps: int
    final_delay_seconds: float
    latency_seconds: float

    @property
    def receipt(self) -> FinalStatus | None:
        """The final status that a callback will tell; none when it never comes."""
        if self.final_status == "sent" or self.lost_steps >> FINAL_STEP & 1:
            return None
        return self.final_status


class Shares(Generic[T]):
    """Outcomes with shares; a draw in [0, 1) picks one or none."""

    def __init__(self, outcomes: list[tuple[T, float]]) -> None:
        kept = [(outcome, share) for outcome, share in outcomes if share > 0]
        self._outcomes = [outcome for outcome, _ in kept]
        self._bounds = list(accumulate(share for _, share in kept))

    def pick(self, draw: float) -> T | None:
        at = bisect_right(self._bounds, draw)
        return self._outcomes[at] if at < len(self._outcomes) else None


_DRAWS = struct.Struct("<8Q")
_SCALE = 1.0 / 2**64


class Fates:
    """The fates under one set of knobs and one seed, prepared for many numbers."""

    def __init__(self, knobs: Knobs, seed: str) -> None:
        self.knobs = knobs
        self._key = seed.encode()[:64]
        self._rejected = Shares(sorted(knobs.rejected_codes.items()))
        self._transport = Shares(
            [(fault, getattr(knobs, f"{fault.value}_share")) for fault in TransportFault]
        )
        failures = sorted(knobs.failed_codes.items())
        self._outcome = Shares([*failures, (0, knobs.no_receipt_share)])
        self._callback_faults = bool(knobs.callback_lost_share or knobs.callback_duplicated_share)
        self._delay_seconds_min = knobs.callback_delay_ms_min / 1000
        self._delay_seconds_range = (
            knobs.callback_delay_ms_max - knobs.callback_delay_ms_min
        ) / 1000

    def of(self, to: str) -> Fate:
        """The fate of this number (E.164, as it is sent)."""
        draws = self._draws(to, b"message")
        knobs = self.knobs
        code = self._outcome.pick(draws[2])
        lost, duplicated = self._callbacks(to) if self._callback_faults else (0, 0)
        rejected = self._rejected.pick(draws[0])
        early = draws[3] < knobs.callback_early_share
        delay_seconds = self._delay_seconds_min + draws[5] * self._delay_seconds_range
        return Fate(
            rejected_code=rejected,
            transport_fault=self._transport.pick(draws[1]) if rejected is None else None,
            final_status=_final_status(code),
            error_code=code or 0,
            early=early,
            reordered=draws[4] < knobs.callback_reordered_share,
            lost_steps=lost,
            duplicated_steps=duplicated,
            final_delay_seconds=0.0 if early else delay_seconds,
            latency_seconds=(knobs.latency_ms + draws[6] * knobs.latency_jitter_ms) / 1000,
        )

    def _draws(self, to: str, purpose: bytes) -> list[float]:
        # One keyed hash is eight independent draws; a draw's place is its purpose.
        digest = blake2b(to.encode(), key=self._key, person=purpose).digest()
        return [number * _SCALE for number in _DRAWS.unpack(digest)]

    def _callbacks(self, to: str) -> tuple[int, int]:
        draws = self._draws(to, b"callbacks")
        lost_share, twice_share = (
            self.knobs.callback_lost_share,
            self.knobs.callback_duplicated_share,
        )
        lost = sum(1 << step for step in range(4) if draws[step] < lost_share)
        twice = sum(1 << step for step in range(4) if draws[4 + step] < twice_share)
        return lost, twice & ~lost


def _final_status(code: int | None) -> FinalStatus:
    if code is None:
        return "delivered"
    if code == 0:
        return "sent"
    return "failed" if code in FAILED_BEFORE_SENT else "undelivered"


@lru_cache(maxsize=8)
def _prepared(knobs_json: str, seed: str) -> Fates:
    return Fates(Knobs.model_validate_json(knobs_json), seed)


def fate_of(knobs: Knobs, seed: str, to: str) -> Fate:
    """What `to` will get under these knobs and this seed; for many numbers, keep a `Fates`."""
    return _prepared(knobs.model_dump_json(), seed).of(to)

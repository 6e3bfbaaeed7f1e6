"""What becomes of an email's recipient: a pure function of the knobs, the seed and the address.

As for numbers (`services.sandbox.fates`), nothing here depends on the order or the time of calls.
Addresses count without regard to case.
"""

import struct
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, NamedTuple, get_args

from services.sandbox.fates import Shares, TransportFault
from services.sandbox.sendgrid.knobs import (
    EVENT_TYPES,
    BounceClassification,
    DropReason,
    EmailKnobs,
    EventType,
)


class Outcome(StrEnum):
    """How an accepted email goes, before the recipient does anything with it."""

    DELIVERED = "delivered"
    DEFERRED_THEN_DELIVERED = "deferred_then_delivered"
    DEFERRED_FOR_EVER = "deferred_for_ever"
    BOUNCED = "bounced"
    BLOCKED = "blocked"
    DROPPED = "dropped"
    BOUNCED_AFTER_DELIVERY = "bounced_after_delivery"
    NO_FINAL_EVENT = "no_final_event"


OUTCOMES = tuple(Outcome)

DETAILS: tuple[str, ...] = ("", *get_args(BounceClassification), *get_args(DropReason))
"""All bounce classifications and drop reasons."""

Complaint = Literal["", "spamreport", "unsubscribe", "group_unsubscribe"]
COMPLAINTS: tuple[Complaint, ...] = get_args(Complaint)

# The steps of an email, in order; a bit mask of steps has bit n for step n.
PROCESSED, DEFERRED, FINAL, LATE_BOUNCE, OPEN, CLICK, COMPLAINT = 0, 1, 4, 5, 6, 7, 8
STEPS = 9
"""DEFERRED stands for three steps: one for each deferral there may be."""

FinalEvent = Literal["delivered", "bounce", "blocked", "dropped", "deferred", "processed"]


class EmailFate(NamedTuple):
    """What an address will get.

    `rejection`: whether a request with it is refused with a 400, naming the recipient or not.
    `detail`: the bounce classification or the drop reason; empty for neither.
    `steps`: mask of the events that happen; `lost`, `duplicated`, `fields_missing`: of those that
    are never posted, posted twice, posted with fewer fields.
    `delay_seconds`: from acceptance to the first outcome.
    """

    rejection: Literal["named", "unnamed"] | None
    outcome: Outcome
    detail: str
    complaint: Complaint
    steps: int
    lost: int
    duplicated: int
    fields_missing: int
    reordered: bool
    delay_seconds: float

    @property
    def final_event(self) -> FinalEvent:
        """The event that decides the email's status once all is over (a block is a `bounce`)."""
        return final_event(self.outcome, self.steps)

    @property
    def events(self) -> list[EventType]:
        """The events that happen, in order."""
        return [event_of(self.outcome, self.complaint, step) for step in steps_of(self.steps)]

    @property
    def told(self) -> list[EventType]:
        """The events that are posted (each once), in the order in which they happen."""
        kept = self.steps & ~self.lost
        return [event_of(self.outcome, self.complaint, step) for step in steps_of(kept)]


def dropped(fate: EmailFate, reason: DropReason) -> EmailFate:
    """What this fate becomes when the address is on a suppression list."""
    steps = 1 << FINAL
    return fate._replace(
        outcome=Outcome.DROPPED,
        detail=reason,
        complaint="",
        steps=steps,
        lost=fate.lost & steps,
        duplicated=fate.duplicated & steps,
        fields_missing=fate.fields_missing & steps,
    )


def steps_of(mask: int) -> list[int]:
    """The steps of a mask."""
    return [step for step in range(STEPS) if mask >> step & 1]


def event_of(outcome: Outcome, complaint: Complaint, step: int) -> EventType:
    """The type of the event of a step."""
    match step:
        case 0:
            return "processed"
        case 1 | 2 | 3:
            return "deferred"
        case 4:
            return _FINAL_EVENTS[outcome]
        case 5:
            return "bounce"
        case 6:
            return "open"
        case 7:
            return "click"
    assert complaint
    return complaint


_FINAL_EVENTS: dict[Outcome, EventType] = {
    Outcome.DELIVERED: "delivered",
    Outcome.DEFERRED_THEN_DELIVERED: "delivered",
    Outcome.DEFERRED_FOR_EVER: "bounce",
    Outcome.BOUNCED: "bounce",
    Outcome.BLOCKED: "bounce",
    Outcome.DROPPED: "dropped",
    Outcome.BOUNCED_AFTER_DELIVERY: "delivered",
}


def final_event(outcome: Outcome, steps: int) -> FinalEvent:
    """See `EmailFate.final_event`."""
    match outcome:
        case Outcome.DELIVERED | Outcome.DEFERRED_THEN_DELIVERED:
            return "delivered"
        case Outcome.DEFERRED_FOR_EVER:
            return "blocked" if steps >> FINAL & 1 else "deferred"
        case Outcome.BOUNCED | Outcome.BOUNCED_AFTER_DELIVERY:
            return "bounce"
        case Outcome.BLOCKED:
            return "blocked"
        case Outcome.DROPPED:
            return "dropped"
        case Outcome.NO_FINAL_EVENT:
            return "processed"


_DRAWS = struct.Struct("<8Q")
_SMALL_DRAWS = struct.Struct("<32H")
_SCALE = 1.0 / 2**64
_SMALL_SCALE = 1.0 / 2**16

# What an asynchronous bounce says: most receivers refuse at once what they refuse for other reasons.
_LATE_BOUNCE_CLASS: BounceClassification = "Mailbox Unavailable"


class EmailFates:
    """The fates under one set of knobs and one seed, prepared for many addresses."""

    def __init__(self, knobs: EmailKnobs, seed: str) -> None:
        self.knobs = knobs
        self._key = seed.encode()[:64]
        self._fault = Shares(
            [(fault, getattr(knobs, f"{fault.value}_share")) for fault in TransportFault]
        )
        rejections: list[tuple[Literal["named", "unnamed"], float]] = [
            ("named", knobs.rejected_share),
            ("unnamed", knobs.rejected_unnamed_share),
        ]
        self._rejection = Shares(rejections)
        self._outcome = Shares(_outcomes(knobs))
        complaints: list[tuple[Complaint, float]] = [
            ("spamreport", knobs.spamreport_share),
            ("unsubscribe", knobs.unsubscribe_share),
            ("group_unsubscribe", knobs.group_unsubscribe_share),
        ]
        self._complaint = Shares(complaints)
        self._all_types = set(EVENT_TYPES) <= set(knobs.event_types)
        self._event_faults = bool(
            knobs.event_lost_share
            or knobs.event_duplicated_share
            or knobs.event_fields_missing_share
        )
        self._delay_seconds_min = knobs.event_delay_ms_min / 1000
        self._delay_seconds_range = (knobs.event_delay_ms_max - knobs.event_delay_ms_min) / 1000

    def of(self, email: str) -> EmailFate:
        """The fate of this address."""
        address = email.lower().encode()
        draws = self._draws(address, b"email")
        knobs = self.knobs
        outcome, detail = self._outcome.pick(draws[1] * _SCALE) or (Outcome.DELIVERED, "")
        steps = _steps(outcome, knobs)
        complaint: Complaint = ""
        if outcome in (Outcome.DELIVERED, Outcome.DEFERRED_THEN_DELIVERED):
            complaint = self._complaint.pick(draws[2] * _SCALE) or ""
            steps |= (
                (draws[3] * _SCALE < knobs.open_share) << OPEN
                | (draws[4] * _SCALE < knobs.click_share) << CLICK
                | bool(complaint) << COMPLAINT
            )
        lost, duplicated, fields_missing = (
            self._faults_of_events(address) if self._event_faults else (0, 0, 0)
        )
        lost |= self._unposted(outcome, complaint, steps)
        return EmailFate(
            self._rejection.pick(draws[0] * _SCALE),
            outcome,
            detail,
            complaint,
            steps,
            lost & steps,
            duplicated & steps & ~lost,
            fields_missing & steps,
            draws[5] * _SCALE < knobs.event_reordered_share,
            self._delay_seconds_min + draws[6] * _SCALE * self._delay_seconds_range,
        )

    def request_fault(self, first_email: str) -> TransportFault | None:
        """What goes wrong with the first request whose first recipient this is."""
        draws = self._draws(first_email.lower().encode(), b"request")
        return self._fault.pick(draws[0] * _SCALE)

    def _unposted(self, outcome: Outcome, complaint: Complaint, steps: int) -> int:
        if not self.knobs.events_enabled:
            return steps
        if self._all_types:
            return 0
        types = self.knobs.event_types
        return sum(
            1 << step for step in steps_of(steps) if event_of(outcome, complaint, step) not in types
        )

    def _draws(self, address: bytes, purpose: bytes) -> tuple[int, ...]:
        # One keyed hash is eight independent draws; a draw's place is its purpose.
        return _DRAWS.unpack(blake2b(address, key=self._key, person=purpose).digest())

    def _faults_of_events(self, address: bytes) -> tuple[int, int, int]:
        digest = blake2b(address, key=self._key, person=b"email events").digest()
        draws = [number * _SMALL_SCALE for number in _SMALL_DRAWS.unpack(digest)]
        knobs = self.knobs
        masks = []
        for place, share in enumerate(
            (
                knobs.event_lost_share,
                knobs.event_duplicated_share,
                knobs.event_fields_missing_share,
            )
        ):
            drawn = draws[place * STEPS : (place + 1) * STEPS]
            masks.append(sum(1 << step for step in range(STEPS) if drawn[step] < share))
        return masks[0], masks[1], masks[2]


def _outcomes(knobs: EmailKnobs) -> list[tuple[tuple[Outcome, str], float]]:
    return [
        ((Outcome.DEFERRED_THEN_DELIVERED, ""), knobs.deferred_then_delivered_share),
        ((Outcome.DEFERRED_FOR_EVER, "Unclassified"), knobs.deferred_for_ever_share),
        *(
            ((Outcome.BOUNCED, name), share)
            for name, share in sorted(knobs.bounced_classes.items())
        ),
        *(
            ((Outcome.BLOCKED, name), share)
            for name, share in sorted(knobs.blocked_classes.items())
        ),
        *(
            ((Outcome.DROPPED, name), share)
            for name, share in sorted(knobs.dropped_reasons.items())
        ),
        ((Outcome.BOUNCED_AFTER_DELIVERY, _LATE_BOUNCE_CLASS), knobs.bounced_after_delivery_share),
        ((Outcome.NO_FINAL_EVENT, ""), knobs.no_final_event_share),
    ]


def _steps(outcome: Outcome, knobs: EmailKnobs) -> int:
    deferrals = ((1 << knobs.deferrals) - 1) << DEFERRED
    final = 1 << FINAL
    match outcome:
        case Outcome.DROPPED:
            return final
        case Outcome.NO_FINAL_EVENT:
            return 1
        case Outcome.DEFERRED_THEN_DELIVERED:
            return 1 | deferrals | final
        case Outcome.DEFERRED_FOR_EVER:
            return 1 | deferrals | (final if knobs.deferral_expires_seconds else 0)
        case Outcome.BOUNCED_AFTER_DELIVERY:
            return 1 | final | 1 << LATE_BOUNCE
        case _:
            return 1 | final


@lru_cache(maxsize=8)
def _prepared(knobs_json: str, seed: str) -> EmailFates:
    return EmailFates(EmailKnobs.model_validate_json(knobs_json), seed)


def email_fate_of(knobs: EmailKnobs, seed: str, email: str) -> EmailFate:
    """What `email` will get under these knobs and this seed; for many, keep an `EmailFates`."""
    return _prepared(knobs.model_dump_json(), seed).of(email)

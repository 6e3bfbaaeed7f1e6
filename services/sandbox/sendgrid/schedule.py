"""When the events of an email happen."""

from typing import NamedTuple

from services.sandbox.sendgrid.fates import (
    CLICK,
    COMPLAINT,
    DEFERRED,
    FINAL,
    LATE_BOUNCE,
    OPEN,
    PROCESSED,
    Outcome,
)
from services.sandbox.sendgrid.knobs import EmailKnobs

_PROCESSED_AT = 0.1
"""As a part of the delay to the first outcome."""


class Timing(NamedTuple):
    """The knobs that counted when the email was accepted; seconds."""

    deferrals: int
    deferral: float
    expiry: float
    late_bounce: float
    engagement: float


def timing_of(knobs: EmailKnobs) -> Timing:
    """What of the knobs decides about times."""
    return Timing(
        knobs.deferrals,
        knobs.deferral_seconds,
        knobs.deferral_expires_seconds,
        knobs.late_bounce_seconds,
        knobs.engagement_seconds,
    )


def offset_seconds(step: int, outcome: Outcome, timing: Timing, delay: float) -> float:
    """From acceptance to the event of a step."""
    if step == PROCESSED:
        return delay * _PROCESSED_AT
    deferred = outcome in (Outcome.DEFERRED_THEN_DELIVERED, Outcome.DEFERRED_FOR_EVER)
    if DEFERRED <= step < FINAL:
        return delay + timing.deferral * (step - DEFERRED) / timing.deferrals
    final = delay
    if deferred:
        ever = outcome is Outcome.DEFERRED_FOR_EVER
        final += max(timing.expiry, timing.deferral) if ever else timing.deferral
    match step:
        case s if s == FINAL:
            return final
        case s if s == LATE_BOUNCE:
            return final + timing.late_bounce
        case s if s == OPEN:
            return final + timing.engagement * 0.3
        case s if s == CLICK:
            return final + timing.engagement * 0.6
    assert step == COMPLAINT
    return final + timing.engagement

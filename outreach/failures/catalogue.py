"""What people are told of each failure reason: what happened, what to do, and whether a retry makes sense."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from outreach.failures import sendgrid, twilio
from outreach.vocabulary import FailureReason

TWILIO: Final = "twilio"
SENDGRID: Final = "sendgrid"

_R = FailureReason


@dataclass(frozen=True, slots=True)
class ReasonTold:
    """`retryable` is False when the same message would fail again, or (UNCONFIRMED) might arrive twice."""

    text: str
    advice: str
    retryable: bool = True


REASONS: Final[Mapping[FailureReason, ReasonTold]] = {
    _R.INVALID_RECIPIENT: ReasonTold(
        "The recipient is not a number or address that can be reached.",
        "Correct it in your own data, and send to it in a new campaign.",
        retryable=False,
    ),
    _R.UNREACHABLE: ReasonTold(
        "The handset was off, or no route led to the recipient.",
        "Retry later.",
    ),
    _R.BLOCKED_BY_CARRIER_OR_SERVER: ReasonTold(
        "The carrier, the mail server or the recipient's device blocks the sender.",
        "Look after the sender's standing (registration, SPF and DKIM, complaints), then retry.",
    ),
    _R.FILTERED_AS_SPAM: ReasonTold(
        "The message was taken for spam.",
        "Register the sender where that is asked for, then retry; if it fails again, send another text.",
    ),
    _R.CONTENT_REJECTED: ReasonTold(
        "The provider or the mail server refuses the content: too long, empty or forbidden.",
        "Make a new campaign with another content.",
        retryable=False,
    ),
    _R.MISSING_VARIABLE: ReasonTold(
        "The contact lacks a value that the template needs, and the campaign skips such contacts.",
        "Add the value, or a fallback to the placeholder, in a new campaign.",
        retryable=False,
    ),
    _R.SENDER_NOT_ALLOWED: ReasonTold(
        "The sender is not set up, not registered or not verified at the provider.",
        "Have the sender verified or registered there, then retry.",
    ),
    _R.REGION_NOT_ENABLED: ReasonTold(
        "The provider's account may not send to this country.",
        "Enable the country at the provider, then retry.",
    ),
    _R.MAILBOX_UNAVAILABLE: ReasonTold(
        "The mailbox is full or takes no mail now.",
        "Retry after some days.",
    ),
    _R.PREVIOUSLY_BOUNCED: ReasonTold(
        "The provider sends nothing to the address, because of an earlier bounce or spam report.",
        "Check the address; once it is right, take it off the provider's list and force the retry.",
        retryable=False,
    ),
    _R.RATE_LIMITED: ReasonTold(
        "More was sent than the sender may send in this time.",
        "Retry later, or have the provider raise the limit.",
    ),
    _R.EXPIRED_IN_QUEUE: ReasonTold(
        "The message waited at the provider for longer than it was valid.",
        "Retry; if it happens often, let messages be valid for longer or send fewer at a time.",
    ),
    _R.ACCOUNT_PROBLEM: ReasonTold(
        "The provider's account is suspended, unpaid or on trial, or its credentials are wrong.",
        "Settle that with the provider, then retry.",
    ),
    _R.PROVIDER_ERROR: ReasonTold(
        "The provider or the carrier had a fault of its own.",
        "Retry; if it goes on, ask the provider with the code.",
    ),
    _R.TIMED_OUT: ReasonTold(
        "Nothing final was told of the email for longer than the limit.",
        "Retry; it may have arrived all the same.",
    ),
    _R.UNCONFIRMED: ReasonTold(
        "It may have gone out: the provider never said. The system does not send it again by itself.",
        "Force a retry only if the recipient may get it twice.",
        retryable=False,
    ),
    _R.OTHER: ReasonTold(
        "The provider gave a code that is not in the tables.",
        "Look the code up at the provider, then retry.",
    ),
}


def provider_codes() -> Iterator[tuple[FailureReason, str, str]]:
    """Reason, provider, code: every code that means one. Codes of opt-outs mean none.

    Twilio's are whole codes. SendGrid's are what a code begins with (`dropped/Bounced Address`,
    `blocked`) or one of the parts between its slashes (`Invalid Address`, `x.1.x`).
    """
    for code, rule in twilio.CODES.items():
        if rule.reason is not None:
            yield rule.reason, TWILIO, code
    parts = (
        sendgrid.CLASSIFICATIONS,
        sendgrid.VAGUE_CLASSIFICATIONS,
        sendgrid.STATUSES,
        sendgrid.BOUNCE_TYPES,
    )
    for table in parts:
        for code, reason in table.items():
            yield reason, SENDGRID, code
    for code, why in sendgrid.DROPS.items():
        if why is not None:
            yield why, SENDGRID, f"{sendgrid.DROPPED}/{code}"

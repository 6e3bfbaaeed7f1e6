"""What SendGrid's codes mean to us: one table for each kind.

Sources: SendGrid's "Event Webhook Reference" (types of events, drop reasons), "Bounce and Block
Classifications", glossary ("Expired": deferred for 72 hours); RFC 3463 and IANA's registry of SMTP
enhanced status codes. SendGrid says that classifications change, so the raw codes are always kept
and what is unknown is OTHER.
"""

from collections.abc import Mapping
from typing import Final

from outreach.vocabulary import FailureReason

_R = FailureReason

#: What SendGrid makes of a mail server's answer. It goes before the status in it.
CLASSIFICATIONS: Final[Mapping[str, FailureReason]] = {
    "Invalid Address": _R.INVALID_RECIPIENT,
    "Mailbox Unavailable": _R.MAILBOX_UNAVAILABLE,
    "Content": _R.FILTERED_AS_SPAM,
    "Reputation": _R.BLOCKED_BY_CARRIER_OR_SERVER,
    "Frequency or Volume Too High": _R.RATE_LIMITED,
}
#: Those that say less than a status does. ("Unclassified" says nothing.)
VAGUE_CLASSIFICATIONS: Final[Mapping[str, FailureReason]] = {
    "Technical": _R.UNREACHABLE,
    "Technical Failure": _R.UNREACHABLE,
}

#: Class (2 success, 4 temporary, 5 permanent), subject, detail; `x` is any. The most exact line counts.
#: A bounce for a temporary reason was tried again until SendGrid gave up.
STATUSES: Final[Mapping[str, FailureReason]] = {
    "x.1.x": _R.INVALID_RECIPIENT,
    "x.1.7": _R.SENDER_NOT_ALLOWED,  # bad address of the sender
    "x.1.8": _R.SENDER_NOT_ALLOWED,  # bad domain of the sender
    "x.2.x": _R.MAILBOX_UNAVAILABLE,
    "x.2.3": _R.CONTENT_REJECTED,  # too long for the mailbox
    "x.3.x": _R.UNREACHABLE,
    "x.3.4": _R.CONTENT_REJECTED,  # too big for the system
    "x.4.x": _R.UNREACHABLE,
    "x.4.7": _R.EXPIRED_IN_QUEUE,
    "4.3.x": _R.EXPIRED_IN_QUEUE,
    "4.4.x": _R.EXPIRED_IN_QUEUE,
    "x.5.x": _R.PROVIDER_ERROR,
    "x.5.3": _R.RATE_LIMITED,  # too many recipients
    "x.6.x": _R.CONTENT_REJECTED,
    "x.7.x": _R.BLOCKED_BY_CARRIER_OR_SERVER,
    "x.7.13": _R.MAILBOX_UNAVAILABLE,  # account disabled
    "x.7.17": _R.INVALID_RECIPIENT,  # the mailbox has another owner now
    "x.7.18": _R.INVALID_RECIPIENT,  # the domain has another owner now
    "x.7.20": _R.SENDER_NOT_ALLOWED,  # DKIM
    "x.7.21": _R.SENDER_NOT_ALLOWED,  # DKIM
    "x.7.22": _R.SENDER_NOT_ALLOWED,  # DKIM
    "x.7.23": _R.SENDER_NOT_ALLOWED,  # SPF
    "x.7.24": _R.SENDER_NOT_ALLOWED,  # SPF
    "x.7.26": _R.SENDER_NOT_ALLOWED,  # DMARC
    "x.7.28": _R.RATE_LIMITED,  # mail flood
    # codes of RFC 5321, where a server gives no other
    "551": _R.INVALID_RECIPIENT,
    "552": _R.MAILBOX_UNAVAILABLE,
    "553": _R.INVALID_RECIPIENT,
}

#: The type of a bounce, where nothing else tells.
BOUNCE_TYPES: Final[Mapping[str, FailureReason]] = {
    "blocked": _R.BLOCKED_BY_CARRIER_OR_SERVER,
    "expired": _R.EXPIRED_IN_QUEUE,
    "bounce": _R.OTHER,
}

#: The event whose reasons these are; a message's code is both: `dropped/Bounced Address`.
DROPPED: Final = "dropped"
#: None: the recipient had opted out at SendGrid, which is no failure.
DROPS: Final[Mapping[str, FailureReason | None]] = {
    "Unsubscribed Address": None,
    "Bounced Address": _R.PREVIOUSLY_BOUNCED,
    "Spam Reporting Address": _R.PREVIOUSLY_BOUNCED,
    "Invalid": _R.INVALID_RECIPIENT,
    "Spam Content": _R.FILTERED_AS_SPAM,
    "Recipient List over Package Quota": _R.ACCOUNT_PROBLEM,
    "Invalid SMTPAPI header": _R.CONTENT_REJECTED,
    "Expired": _R.EXPIRED_IN_QUEUE,
}

"""The product's words as enums, with the numbers of the public protos (a test holds them together).

These are what the domain, the store and the senders speak; only the rpc rooms know the protos' own enums.
"""

from enum import IntEnum


class Channel(IntEnum):
    """How a campaign reaches its recipients; fixed at creation."""

    SMS = 1
    EMAIL = 2


class CampaignStatus(IntEnum):
    """Derived from the campaign's messages, never set by hand."""

    CREATED = 1
    READY = 2
    IN_PROGRESS = 3
    ACTIVE_RETRIES = 4
    COMPLETE = 5
    COMPLETE_WITH_ERRORS = 6
    FAILED = 7


class CampaignAction(IntEnum):
    """What can be done with a campaign."""

    UPDATE = 1
    IMPORT_CONTACTS = 2
    RUN = 3
    STOP = 4
    RETRY = 5
    DELETE = 6
    EXPORT = 7


class MessageStatus(IntEnum):
    """What became of a message."""

    WAITING = 1
    QUEUED = 2
    SENDING = 3
    SENT = 4
    RETRYING = 5
    DELIVERED = 6
    ASSUMED_DELIVERED = 7
    FAILED = 8
    OPTED_OUT = 9
    CANCELLED = 10


class FailureReason(IntEnum):
    """Why a message failed: one list for both channels."""

    INVALID_RECIPIENT = 1
    UNREACHABLE = 2
    BLOCKED_BY_CARRIER_OR_SERVER = 3
    FILTERED_AS_SPAM = 4
    CONTENT_REJECTED = 5
    MISSING_VARIABLE = 6
    SENDER_NOT_ALLOWED = 7
    REGION_NOT_ENABLED = 8
    MAILBOX_UNAVAILABLE = 9
    PREVIOUSLY_BOUNCED = 10
    RATE_LIMITED = 11
    EXPIRED_IN_QUEUE = 12
    ACCOUNT_PROBLEM = 13
    PROVIDER_ERROR = 14
    TIMED_OUT = 15
    UNCONFIRMED = 16
    OTHER = 17


class Outcome(IntEnum):
    """What a sender or a webhook learned about one attempt (internal/v1/delivery.proto)."""

    ACCEPTED = 1
    REJECTED = 2
    HANDED_BACK = 3
    UNKNOWN = 4
    NOT_FOUND = 5
    DELIVERED = 6
    FAILED = 7
    DEFERRED = 8
    OPTED_OUT = 9


#: From the weakest on. Evidence that something was sent beats "handed back".
_OUTCOMES_BY_RANK = (
    Outcome.NOT_FOUND,
    Outcome.UNKNOWN,
    Outcome.HANDED_BACK,
    Outcome.ACCEPTED,
    Outcome.DEFERRED,
    Outcome.REJECTED,
    Outcome.OPTED_OUT,
)

#: By channel: of several reports about one attempt the highest counts. The bounce of an email beats the delivery that
#: it follows. Nothing follows the delivery of an SMS: whoever has it must not be sent it again as a failed one.
OUTCOME_RANK: dict[Channel, dict[Outcome, int]] = {
    Channel.SMS: {
        outcome: rank
        for rank, outcome in enumerate((*_OUTCOMES_BY_RANK, Outcome.FAILED, Outcome.DELIVERED))
    },
    Channel.EMAIL: {
        outcome: rank
        for rank, outcome in enumerate((*_OUTCOMES_BY_RANK, Outcome.DELIVERED, Outcome.FAILED))
    },
}


class MissingVariablePolicy(IntEnum):
    """What happens to a contact that lacks a value for a placeholder without a fallback."""

    KEEP_PLACEHOLDER = 1
    SKIP = 2


class SuppressionSource(IntEnum):
    """How a recipient came to be suppressed; stored by its name in small letters."""

    REPLY = 1
    LINK = 2
    PROVIDER = 3
    SPAM_REPORT = 4
    OPERATOR = 5
    ERASURE = 6


class Role(IntEnum):
    """What the holder of an API key may do (product rules: "Who may do what")."""

    ORG_ADMIN = 1
    ADMIN = 2
    CAMPAIGNER = 3
    OPERATIONS = 4

"""Whether a retry of a failed message makes sense, and what a failed campaign tells people. Pure."""

from collections.abc import Mapping
from typing import Final

from outreach.failures.catalogue import REASONS
from outreach.vocabulary import FailureReason, MessageStatus

#: The same message would fail again for the same reason, or (UNCONFIRMED) might arrive twice.
POINTLESS: Final = frozenset(reason for reason, entry in REASONS.items() if not entry.retryable)


def is_retryable(status: MessageStatus, reason: FailureReason | None) -> bool:
    """False unless FAILED, for a reason that may pass, or CANCELLED."""
    if status is MessageStatus.CANCELLED:
        return True
    return status is MessageStatus.FAILED and reason not in POINTLESS


#: By reason: what the provider refuses, and what to do about it.
_REFUSALS: Final[Mapping[FailureReason, tuple[str, str]]] = {
    FailureReason.ACCOUNT_PROBLEM: (
        "The provider refuses the account",
        "Check the channel's credentials and the account's standing, then retry the cancelled messages.",
    ),
    FailureReason.SENDER_NOT_ALLOWED: (
        "The provider does not let the account use this sender",
        "Have the sender verified or registered at the provider, then retry the cancelled messages.",
    ),
    FailureReason.REGION_NOT_ENABLED: (
        "The provider does not send to this region for the account",
        "Enable the region at the provider, then retry the cancelled messages.",
    ),
    FailureReason.CONTENT_REJECTED: (
        "The provider refuses the content",
        "Make a new campaign with another content; what was cancelled here would be refused again.",
    ),
}
_REFUSAL: Final = (
    "The provider refuses the campaign",
    "Look at the provider for its code, then retry the cancelled messages.",
)


def campaign_failure_text(reason: FailureReason) -> str:
    """For people: why a campaign failed whose messages the provider refuses, all for this one reason."""
    what, remedy = _REFUSALS.get(reason, _REFUSAL)
    return f"{what} ({reason.name}): nothing more was sent. {remedy}"

"""Whether a retry of a failed message makes sense. Pure."""

from outreach.vocabulary import FailureReason, MessageStatus

#: The same message would fail again for the same reason, or (UNCONFIRMED) might arrive twice.
_POINTLESS = frozenset(
    {
        FailureReason.INVALID_RECIPIENT,
        FailureReason.CONTENT_REJECTED,
        FailureReason.MISSING_VARIABLE,
        FailureReason.PREVIOUSLY_BOUNCED,
        FailureReason.UNCONFIRMED,
    }
)


def is_retryable(status: MessageStatus, reason: FailureReason | None) -> bool:
    """False unless FAILED, for a reason that may pass, or CANCELLED."""
    if status is MessageStatus.CANCELLED:
        return True
    return status is MessageStatus.FAILED and reason not in _POINTLESS

"""What a sender needs from its provider's adapter."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from outreach.internal.v1 import delivery_pb2
from outreach.sending.outcomes import Answer, AttemptOutcome
from outreach.vocabulary import Channel, FailureReason

PreparedT = TypeVar("PreparedT")


class WindowOver(Exception):
    """The claim's send window ended before the request began. Nothing may be sent under it."""


class CampaignNotSendable(Exception):
    """The content can't be sent by this provider, whatever the recipient: the campaign fails."""

    def __init__(self, failure_reason: FailureReason, provider_code: str = "") -> None:
        super().__init__(failure_reason.name)
        self.failure_reason = failure_reason
        self.provider_code = provider_code


class Provider(Protocol[PreparedT]):
    """One provider's API. SMS sends one message a request, email many; the rest is the same.

    `PreparedT` is a campaign made ready to send: whatever is the same for all its messages.
    """

    @property
    def channel(self) -> Channel:
        """The channel it serves."""
        ...

    @property
    def messages_per_request_max(self) -> int:
        """How many messages of one campaign go into one request."""
        ...

    def prepare(
        self,
        content: delivery_pb2.CampaignContent,
        account: delivery_pb2.ProviderAccount,
        attachments: Sequence[bytes],
    ) -> PreparedT:
        """Make a campaign ready, once per content and account. Raises CampaignNotSendable.

        `attachments` are those of the content, in its order. They are missing where it is not to be
        sent any more (for look-ups).
        """
        ...

    async def send(
        self,
        prepared: PreparedT,
        messages: Sequence[delivery_pb2.ClaimedMessage],
        begin: Callable[[], None],
    ) -> Answer:
        """Send messages in one request and say what came of it.

        `begin` has to be called right before the request can be whole: before its first byte, or
        before the last piece of its body. It is not called at all when no request is made. It
        raises when the request must not be finished (WindowOver, a journal that can't be written);
        then the answer is NotSent. Only CancelledError may be raised.
        """
        ...

    async def look_up(
        self, prepared: PreparedT, attempt: delivery_pb2.UnknownAttempt
    ) -> AttemptOutcome | None:
        """Ask the provider what became of an attempt: NOT_FOUND when it knows nothing (yet).

        None when it could not be asked.
        """
        ...

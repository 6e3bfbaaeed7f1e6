"""Page tokens, and pages that fit into a message."""

from collections.abc import Iterable

from google.protobuf.message import Message

from outreach.errors import OutreachError
from outreach.rpc.options import MESSAGE_BYTES_MAX
from outreach.tokens import TokenInvalidError, TokenSigner

_PURPOSE = "page"
#: A page ends early at this size, so that an answer never exceeds a message.
PAGE_BYTES_MAX = MESSAGE_BYTES_MAX * 3 // 4


class PageTokens:
    """Where a list goes on, signed and bound to its query."""

    def __init__(self, signer: TokenSigner) -> None:
        self._signer = signer

    def read(self, token: str, query: bytes) -> bytes | None:
        """What `make` was given; None for the first page. PAGE_TOKEN_INVALID for another query's."""
        if not token:
            return None
        try:
            return self._signer.verify(_PURPOSE, token, query)
        except TokenInvalidError:
            raise OutreachError(
                "PAGE_TOKEN_INVALID",
                "This page token is not of this list with this filter; begin without one.",
            ) from None

    def make(self, position: bytes, query: bytes) -> str:
        """A token for the page after `position`."""
        return self._signer.sign(_PURPOSE, position, query)


def fitting(messages: Iterable[Message]) -> int:
    """How many of them fit into one page; at least one."""
    count = size = 0
    for message in messages:
        size += message.ByteSize() + 8
        if count and size > PAGE_BYTES_MAX:
            break
        count += 1
    return count

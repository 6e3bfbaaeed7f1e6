"""SendGrid's limits of a request, and how messages are divided to keep them."""

from collections.abc import Sequence
from typing import Final

from outreach.internal.v1 import delivery_pb2

MESSAGES_MAX: Final = 1_000
#: Of a personalization: of all its substitutions as JSON, which is a little more than is counted.
SUBSTITUTIONS_BYTES_MAX: Final = 10_000
#: An older limit of theirs; nothing says that it is gone.
SUBSTITUTIONS_MAX: Final = 150
#: "Less than 30 MB".
REQUEST_BYTES_MAX: Final = 30_000_000
#: A personalization besides its substitutions: address, tokens, URLs.
PERSONALIZATION_BYTES_MORE: Final = 4_000

Messages = Sequence[delivery_pb2.ClaimedMessage]


def distinct(messages: Messages) -> list[Messages]:
    """In each part an address occurs once, in whatever case: SendGrid refuses a request that names
    one twice. One part when all differ.
    """
    parts: list[list[delivery_pb2.ClaimedMessage]] = []
    occurrences: dict[str, int] = {}
    for message in messages:
        address = message.recipient.lower()
        at = occurrences.get(address, 0)
        occurrences[address] = at + 1
        if at == len(parts):
            parts.append([])
        parts[at].append(message)
    return [*parts]


def fitting(
    messages: Messages, personalizations: Sequence[bytes | None], *, shared_bytes: int
) -> list[Messages]:
    """Parts whose requests stay within the limits, given each message's personalization; those
    without one go alone. One part when all fit together.
    """
    parts: list[Messages] = []
    part: list[delivery_pb2.ClaimedMessage] = []
    size = shared_bytes
    alone: list[Messages] = []
    for message, personalization in zip(messages, personalizations, strict=True):
        if personalization is None:
            alone.append([message])
            continue
        length = len(personalization) + 1
        if part and size + length > REQUEST_BYTES_MAX:
            parts.append(part)
            part, size = [], shared_bytes
        part.append(message)
        size += length
    if part:
        parts.append(part)
    return parts + alone


def alike(messages: Messages) -> list[Messages]:
    """Those that are tried once more and the others: what a request asks for holds for all in it."""
    retried = [message for message in messages if message.is_retry]
    if not retried or len(retried) == len(messages):
        return [messages]
    return [retried, [message for message in messages if not message.is_retry]]


def halves(messages: Messages) -> list[Messages]:
    """Two parts of about the same size."""
    middle = len(messages) // 2
    return [messages[:middle], messages[middle:]]

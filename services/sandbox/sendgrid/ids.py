"""SendGrid's ids: unguessable, and found again without an index."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

_MESSAGE_ID = re.compile(r"([A-Za-z0-9_-]{22})(?:\.[A-Za-z0-9.-]*?\.(\d{1,4}))?")

USER_ID = 50485195
"""The account's number, as it stands inside event ids."""


def message_id(request: int, salt: bytes) -> str:
    """`X-Message-Id` of a request."""
    number = request.to_bytes(4, "big")
    mark = blake2b(number, key=salt, digest_size=12).digest()
    return urlsafe_b64encode(mark + number).decode().rstrip("=")


def sg_message_id(message: str, created: float, index: int) -> str:
    """`sg_message_id` of one of a request's recipients."""
    return f"{message}.recvd-5a17d0b0c5-sndbx-1-{int(created):X}-1.{index}"


def parsed(text: str, salt: bytes) -> tuple[int, int | None] | None:
    """Request and recipient's index of an id that was given out by this salt.

    The index is none for the id of a whole request.
    """
    found = _MESSAGE_ID.fullmatch(text)
    if found is None:
        return None
    request = int.from_bytes(urlsafe_b64decode(found[1] + "==")[12:], "big")
    if message_id(request, salt) != found[1]:
        return None
    return request, None if found[2] is None else int(found[2])


def event_id(event: str, step: int, message: str, index: int) -> str:
    """`sg_event_id`: the same whenever the event is posted."""
    text = f"{event}-{step}-{USER_ID}-{message}-{index}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")

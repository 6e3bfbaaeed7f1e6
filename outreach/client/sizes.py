"""Requests that gRPC would not carry are refused here, where it is known which field is too long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import grpc
from google.protobuf.message import Message

from outreach.client.errors import CallError
from outreach.email.limits import SOURCE_BYTES_MAX
from outreach.errors import Violation
from outreach.rpc.options import MESSAGE_BYTES_MAX

# The service's own limits, in bytes; it would name them if the request reached it.
_TEMPLATE_BYTES_MAX: Mapping[str, int] = {
    "campaign.email.html": SOURCE_BYTES_MAX,
    "campaign.email.mjml": SOURCE_BYTES_MAX,
    "campaign.email.blocks": SOURCE_BYTES_MAX,
    "campaign.email.text": SOURCE_BYTES_MAX,
}
# At most; it never decides.
_NUMBER_BYTES = 8


def check_size(request: Message) -> None:
    """Raises CallError (INVALID_REQUEST, with a violation) for a request above MESSAGE_BYTES_MAX."""
    size = request.ByteSize()
    if size <= MESSAGE_BYTES_MAX:
        return
    path, path_bytes = _largest(request)
    limit = _TEMPLATE_BYTES_MAX.get(path)
    if limit is not None:
        text = f"At most {limit:,} bytes; this has {path_bytes:,}."
        violation = Violation(path, "TEMPLATE_TOO_LONG", text)
    else:
        text = (
            f"A call has at most {MESSAGE_BYTES_MAX:,} bytes; this has {size:,}, most of it here."
        )
        violation = Violation(path, "FIELD_TOO_LONG", text)
    raise CallError(
        "INVALID_REQUEST",
        violation.text,
        code=grpc.StatusCode.INVALID_ARGUMENT,
        violations=[violation],
    )


def _largest(message: Message, path: str = "") -> tuple[str, int]:
    """The field that has most of the bytes, as deep as fields are single and a limit is not known."""
    found, size = max(
        ((descriptor, _bytes(value)) for descriptor, value in message.ListFields()),
        key=lambda each: each[1],
    )
    path = f"{path}.{found.name}" if path else found.name
    value = getattr(message, found.name)
    if isinstance(value, Message) and path not in _TEMPLATE_BYTES_MAX and value.ListFields():
        return _largest(value, path)
    return path, size


def _bytes(value: object) -> int:
    if isinstance(value, Message):
        return value.ByteSize()
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_bytes(key) + _bytes(each) for key, each in value.items())
    if isinstance(value, Iterable):
        return sum(map(_bytes, value))
    return _NUMBER_BYTES

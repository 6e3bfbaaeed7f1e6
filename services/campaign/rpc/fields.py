"""What a request is bound to: its entry in the log of requests, the query of its page tokens."""

import hashlib
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.message import Message

from outreach.rpc.call import Caller
from outreach.rpc.fields import Fields
from services.campaign.store.requests import RequestKey

__all__ = ["Fields", "query_hash", "request_key"]

Sent = TypeVar("Sent", bound=Message)


def request_key(
    fields: Fields, caller: Caller, method: str, request: Sent, request_id: str
) -> RequestKey | None:
    """The entry of a mutating request in the log; None when it carries no request id."""
    value = fields.optional_uuid("request_id", request_id)
    if value is None:
        return None
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    whole = content.SerializeToString(deterministic=True)
    return RequestKey(
        organisation_id=caller.organisation_id,
        request_id=value,
        method=method,
        hash=hashlib.sha256(method.encode() + b"\0" + whole).digest(),
    )


def query_hash(caller: Caller, method: str, *parts: Message | Mapping[str, str]) -> bytes:
    """What a page token is bound to: the organisation, the call and its filter."""
    digest = hashlib.sha256(caller.organisation_id.bytes + method.encode())
    for part in parts:
        if isinstance(part, Message):
            digest.update(hashlib.sha256(part.SerializeToString(deterministic=True)).digest())
        else:
            digest.update(hashlib.sha256(repr(sorted(part.items())).encode()).digest())
    return digest.digest()

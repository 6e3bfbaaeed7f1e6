"""Contents as they are stored: protobuf's JSON form of SmsContent and EmailContent."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from outreach.vocabulary import Channel, MissingVariablePolicy
from services.campaign.domain.content import (
    Content,
    EmailAddress,
    EmailContent,
    Problem,
    SmsContent,
    SmsSender,
)


def content_to_json(content: Content) -> str:
    """What `google.protobuf.json_format` would write, without fields that are not set."""
    raw = _sms(content) if isinstance(content, SmsContent) else _email(content)
    return orjson.dumps({key: value for key, value in raw.items() if value}).decode()


def content_from_json(channel: Channel, text: str) -> Content:
    """The opposite of `content_to_json`."""
    raw: dict[str, Any] = orjson.loads(text)
    if channel is Channel.SMS:
        validity = raw.get("validityPeriod")
        sender = raw.get("sender")
        return SmsContent(
            body=raw.get("body", ""),
            sender=SmsSender(sender.get("messagingServiceSid"), sender.get("from"))
            if sender
            else None,
            validity_seconds=float(validity.removesuffix("s")) if validity else None,
        )
    return EmailContent(
        subject=raw.get("subject", ""),
        from_=_address_from(raw.get("from")),
        reply_to=_address_from(raw.get("replyTo")),
        preheader=raw.get("preheader", ""),
        html=raw.get("html", ""),
        text=raw.get("text", ""),
    )


@dataclass(frozen=True, slots=True)
class AttachmentKey:
    """What names an attachment and its bytes."""

    id: UUID
    sha256: bytes


def content_hash(
    content: Content,
    variable_names: Sequence[str],
    policy: MissingVariablePolicy,
    attachments: Sequence[AttachmentKey] = (),
) -> str:
    """Names everything that a sender renders by; another hash is another content.

    `attachments` (in the order of their ids) are those of an email.
    """
    whole: list[Any] = [content_to_json(content), list(variable_names), int(policy)]
    if not isinstance(content, SmsContent):
        whole.append([[str(each.id), each.sha256.hex()] for each in attachments])
    return hashlib.sha256(orjson.dumps(whole)).hexdigest()


def problems_to_json(problems: Sequence[Problem]) -> str:
    """A list of `{field, reason, description}`."""
    return orjson.dumps(problems).decode()


def problems_from_json(text: str) -> tuple[Problem, ...]:
    """The opposite of `problems_to_json`."""
    return tuple(Problem(**raw) for raw in orjson.loads(text))


def _sms(content: SmsContent) -> dict[str, Any]:
    sender = content.sender
    return {
        "body": content.body,
        "sender": sender
        and (
            {"messagingServiceSid": sender.messaging_service_sid}
            if sender.messaging_service_sid is not None
            else {"from": sender.from_}
        ),
        "validityPeriod": content.validity_seconds and f"{content.validity_seconds:g}s",
    }


def _email(content: EmailContent) -> dict[str, Any]:
    return {
        "subject": content.subject,
        "from": content.from_ and _address(content.from_),
        "replyTo": content.reply_to and _address(content.reply_to),
        "preheader": content.preheader,
        "html": content.html,
        "text": content.text,
    }


def _address(address: EmailAddress) -> dict[str, str]:
    return {"address": address.address, "displayName": address.display_name}


def _address_from(raw: dict[str, str] | None) -> EmailAddress | None:
    return EmailAddress(raw["address"], raw.get("displayName", "")) if raw else None

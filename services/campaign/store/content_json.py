"""Contents as they are stored: protobuf's JSON form of SmsContent and EmailContent."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from outreach.email.blocks import EmailSource, Html, Mjml
from outreach.email.findings import EmailWarning
from outreach.vocabulary import Channel, MissingVariablePolicy
from services.campaign.domain.compilation import TemplateReport
from services.campaign.domain.content import (
    Content,
    EmailAddress,
    EmailContent,
    Problem,
    SmsContent,
    SmsSender,
)
from services.campaign.store.blocks_json import blocks_from_json, blocks_to_json


def content_to_json(content: Content) -> str:
    """What `google.protobuf.json_format` would write, without fields that are not set."""
    raw = _sms(content) if isinstance(content, SmsContent) else _email(content)
    given = {key: value for key, value in raw.items() if value or key == "blocks"}
    return orjson.dumps(given).decode()


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
        body=_body_from(raw),
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
    *,
    report: TemplateReport | None = None,
) -> str:
    """Names everything that a sender renders by; another hash is another content.

    `attachments` (in the order of their ids) and `report` are those of an email.
    """
    whole: list[Any] = [content_to_json(content), list(variable_names), int(policy)]
    if not isinstance(content, SmsContent):
        whole.append("" if report is None else report.sha256)
        whole.append([[str(each.id), each.sha256.hex()] for each in attachments])
    return hashlib.sha256(orjson.dumps(whole)).hexdigest()


def report_to_json(report: TemplateReport) -> str:
    """What of a compiled email is told without reading it."""
    return orjson.dumps(report).decode()


def report_from_json(text: str | None) -> TemplateReport | None:
    """The opposite of `report_to_json`; None: the template is not compiled."""
    if text is None:
        return None
    raw: dict[str, Any] = orjson.loads(text)
    return TemplateReport(
        html_bytes=raw["html_bytes"],
        text_bytes=raw["text_bytes"],
        names=tuple(raw["names"]),
        warnings=tuple(EmailWarning(**warning) for warning in raw["warnings"]),
        sha256=raw["sha256"],
    )


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
        **_body(content.body),
        "text": content.text,
    }


def _body(body: EmailSource | None) -> dict[str, Any]:
    if body is None:
        return {}
    if isinstance(body, Html | Mjml):
        return {type(body).__name__.lower(): body.code}
    # Told apart from no body also when there is no block in it.
    return {"blocks": blocks_to_json(body)}


def _body_from(raw: dict[str, Any]) -> EmailSource | None:
    if "html" in raw:
        return Html(raw["html"])
    if "mjml" in raw:
        return Mjml(raw["mjml"])
    return blocks_from_json(raw["blocks"]) if "blocks" in raw else None


def _address(address: EmailAddress) -> dict[str, str]:
    return {"address": address.address, "displayName": address.display_name}


def _address_from(raw: dict[str, str] | None) -> EmailAddress | None:
    return EmailAddress(raw["address"], raw.get("displayName", "")) if raw else None

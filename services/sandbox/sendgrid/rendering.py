"""What a recipient gets: the request's content with the recipient's substitutions in it."""

from dataclasses import dataclass
from typing import Any

_PRIORITY_OF_OWN_HEADERS = ("From", "To", "Cc", "Reply-To", "Subject")


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment as it was given; `content` is base64."""

    filename: str
    type: str
    disposition: str
    content_id: str
    content: str

    @property
    def size_bytes(self) -> int:
        return len(self.content) // 4 * 3 - self.content[-2:].count("=")


@dataclass(frozen=True, slots=True)
class RenderedEmail:
    """An email to one recipient; `html` and `text` are empty when the request had no such part."""

    subject: str
    sender: str
    headers: list[tuple[str, str]]
    html: str
    text: str
    attachments: list[Attachment]
    custom_args: dict[str, str]
    categories: list[str]


def rendered(shared: dict[str, Any], personalization: dict[str, Any]) -> RenderedEmail:
    """Render for one personalization.

    Substitutions act on subject, content and reply-to, one after the other in the order given: a
    value that contains another's tag is substituted again. Headers stay as they are.
    """
    substitutions: dict[str, str] = personalization.get("substitutions") or {}

    def filled(text: str) -> str:
        for tag, value in substitutions.items():
            if tag:
                text = text.replace(tag, value)
        return text

    parts: dict[str, str] = {}
    for block in shared.get("content") or []:
        parts.setdefault(block["type"], filled(block["value"]))
    sender = personalization.get("from") or shared["from"]
    subject = filled(personalization.get("subject") or shared.get("subject") or "")
    own = {
        "From": _mailbox(sender),
        "To": ", ".join(_mailbox(one) for one in personalization["to"]),
        "Cc": ", ".join(_mailbox(one) for one in personalization.get("cc") or []),
        "Reply-To": filled(
            ", ".join(
                _mailbox(one)
                for one in shared.get("reply_to_list") or [shared.get("reply_to")]
                if one
            )
        ),
        "Subject": subject,
    }
    given = {**(shared.get("headers") or {}), **(personalization.get("headers") or {})}
    headers = [(name, own[name]) for name in _PRIORITY_OF_OWN_HEADERS if own[name]]
    return RenderedEmail(
        subject,
        sender["email"],
        [*headers, *given.items()],
        parts.get("text/html", ""),
        parts.get("text/plain", ""),
        [_attachment(one) for one in shared.get("attachments") or []],
        custom_args(shared, personalization),
        list(shared.get("categories") or []),
    )


def custom_args(shared: dict[str, Any], personalization: dict[str, Any]) -> dict[str, str]:
    """The custom arguments of a personalization; its own override the request's."""
    return {**(shared.get("custom_args") or {}), **(personalization.get("custom_args") or {})}


def _mailbox(one: dict[str, Any]) -> str:
    name = one.get("name")
    if not name:
        return str(one["email"])
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{one["email"]}>'


def _attachment(given: dict[str, Any]) -> Attachment:
    return Attachment(
        given["filename"],
        given.get("type") or "application/octet-stream",
        given.get("disposition") or "attachment",
        given.get("content_id") or "",
        given["content"],
    )

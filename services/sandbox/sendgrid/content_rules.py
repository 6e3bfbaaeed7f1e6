"""The rules of a request's content and attachments."""

import binascii
import re
from collections.abc import Iterator
from typing import Any

from services.sandbox.sendgrid.errors import FieldError

_ORDER = {"text/plain": 0, "text/html": 1}
_BREAKS = re.compile(r"[;\r\n]")
_CRLF = re.compile(r"[\r\n]")


def check_content(request: dict[str, Any], errors: list[FieldError]) -> None:
    """Add the errors of `content` and of `template_id`."""

    def add(message: str, field: str, anchor: str = "content") -> None:
        errors.append(FieldError(message, field, f"message.{anchor}"))

    if request.get("template_id") is not None:
        # The account has none; campaigns send their content with the request.
        add("The template_id must be a valid template on your account.", "template_id",
            "template_id")  # fmt: skip
    content = request.get("content")
    if content is None:
        add(
            "Unless a valid template_id is provided, the content parameter is required. There must"
            " be at least one defined content block. We typically suggest both text/plain and"
            " text/html blocks are included, but only one block is required.",
            "content",
        )
        return
    if not isinstance(content, list) or not content:
        add(
            "There must be at least one defined content block. We typically suggest both"
            " text/plain and text/html blocks are included, but only one block is required.",
            "content",
        )
        return
    last = -1
    for at, block in enumerate(content):
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str) or not kind:
            add(
                "Your content type must be a string with length of at least one character.",
                f"content.{at}.type",
                "content.type",
            )
            continue
        if _BREAKS.search(kind):
            add("Cannot contain ';', or CRLF characters.", f"content.{at}.type", "content.type")
        value = block.get("value")
        if not isinstance(value, str) or not value:
            add(
                "The content value must be a string at least one character in length.",
                f"content.{at}.value",
                "content.value",
            )
        order = _ORDER.get(kind, 2)
        if order < last:
            add(
                "Following RFC 1341, section 7.2, if either text/html or text/plain are to be sent"
                " in your email: text/plain needs to be first, followed by text/html, followed by"
                " any other content.",
                "content",
            )
        last = max(last, order)


def check_attachments(request: dict[str, Any], errors: list[FieldError]) -> None:
    """Add the errors of `attachments`."""
    given = request.get("attachments")
    if given is None:
        return
    if not isinstance(given, list):
        errors.append(FieldError("The attachments param must be an array.", "attachments"))
        return
    for at, one in enumerate(given):
        if isinstance(one, dict):
            for part, message in _attachment_errors(one):
                field = f"attachments.{at}.{part}"
                errors.append(FieldError(message, field, f"message.attachments.{part}"))
        else:
            errors.append(FieldError("The attachment must be an object.", f"attachments.{at}"))


def _attachment_errors(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    content, name, kind = given.get("content"), given.get("filename"), given.get("type")
    if not isinstance(content, str) or not content:
        text = "The attachment content must be a string at least one character in length."
        yield "content", text
    elif not _is_base64(content):
        yield "content", "The attachment content must be base64 encoded."
    if name is None:
        yield "filename", "filename is required."
    elif not isinstance(name, str) or not name:
        yield "filename", "The filename of your attachment must be a string."
    elif _CRLF.search(name):
        yield "filename", "The filename of your attachment cannot contain CRLF characters."
    if kind is not None:
        if not isinstance(kind, str) or not kind:
            text = "The attachment type must be a string and at least one character in length."
            yield "type", text
        elif _BREAKS.search(kind):
            yield "type", "The type cannot contain ';', or CRLF characters."
    yield from _inline_errors(given)


def _inline_errors(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    disposition, content_id = given.get("disposition", "attachment"), given.get("content_id")
    if disposition not in ("inline", "attachment"):
        choice = 'can be either "inline" or "attachment"'
        text = f"The disposition of your attachment {choice}. You provided {disposition}."
        yield "disposition", text
    if content_id is None:
        return
    if not isinstance(content_id, str):
        yield "content_id", "The content ID of your attachment must be a string."
    elif _CRLF.search(content_id):
        yield "content_id", "The content ID of your attachment cannot contain CRLF characters."


def _is_base64(text: str) -> bool:
    try:
        binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        return False
    return True

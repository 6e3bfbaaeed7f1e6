"""The plain-text part, made from the sanitised HTML."""

import re

from inscriptis import get_text
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.model.config import ParserConfig

from outreach.email.markup import Comment, Tag, names, read_tokens, write_token

_CONFIG = ParserConfig(css=CSS_PROFILES["strict"], display_links=True, display_images=True)
_TABLE_PARTS = names("table tbody thead tfoot tr td th caption")
# All that the text depends on; alignment and sizes would only indent it.
_KEPT = names("href src alt title colspan rowspan start type")
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
# Without brackets in it: a search would start again at each of them and run to the end every time.
_SAME_LABEL = re.compile(r"\[([^\s\[\]]++)\]\(\1\)")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_GAP = re.compile(r"\n{3,}")


def text_of(body: str) -> str:
    """The text of a sanitised body: links as `[label](url)`, pictures as their alternative text,
    tables side by side unless they only lay out the page.
    """
    text = get_text(f"<html><body>{_without_layout_tables(body)}</body></html>", _CONFIG)
    text = _TRAILING.sub("", _SAME_LABEL.sub(r"\1", text))
    return _GAP.sub("\n\n", text).strip("\n")


def _without_layout_tables(body: str) -> str:
    """The body with a block in place of each part of a table that lays out, and no comments.

    A table lays out when its role says so or when it holds another table.
    """
    tokens = [token for token in read_tokens(body) if not isinstance(token, Comment)]
    layouts: set[int] = set()
    owner: dict[int, int] = {}
    stack: list[int] = []
    for index, token in enumerate(tokens):
        if not isinstance(token, Tag) or token.name not in _TABLE_PARTS:
            continue
        if token.name == "table" and not token.is_end:
            if stack:
                layouts.add(stack[-1])
            stack.append(index)
            if dict(token.attributes).get("role", "").lower() in {"presentation", "none"}:
                layouts.add(index)
        if stack:
            owner[index] = stack[-1]
        if token.name == "table" and token.is_end and stack:
            stack.pop()
    written = []
    for index, token in enumerate(tokens):
        if isinstance(token, Tag):
            part = write_token(_plain(token, is_layout=owner.get(index) in layouts))
            if token.name == "table":
                # A block of its own, whatever stands before it.
                part = f"{part}</div>" if token.is_end else f"<div>{part}"
            written.append(part)
        else:
            written.append(write_token(token))
    return "".join(written)


def _plain(tag: Tag, *, is_layout: bool) -> Tag:
    """The tag without what would indent or centre its text; what is hidden stays hidden."""
    attributes = tuple(
        (name, "display:none" if name == "style" else value)
        for name, value in tag.attributes
        if name in _KEPT or (name == "style" and _HIDDEN.search(value))
    )
    return Tag("div" if is_layout else tag.name, attributes, tag.is_end)

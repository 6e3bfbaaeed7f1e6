"""Markup as an HTML5 serialiser writes it, read as a stream: tags with quoted attributes, text,
comments, and elements whose content is raw text.

Only for what has been through such a serialiser; anything else is first given to one.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass


def names(listed: str) -> frozenset[str]:
    """The names of a list separated by spaces."""
    return frozenset(listed.split())


VOID_ELEMENTS = names("area base br col embed hr img input link meta param source track wbr")
#: Their content is no markup.
RAW_ELEMENTS = names("script style xmp iframe noembed noframes noscript plaintext")

_TOKEN = re.compile(
    r"<!--(?P<comment>.*?)-->"
    r"|<!(?P<declaration>[^>]*)>"
    r"|<(?P<closing>/?)(?P<name>[a-zA-Z][^\s/>]*)(?P<attributes>(?:[^\">]|\"[^\"]*\")*+)>"
    r"|(?P<text>[^<]+|<)",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"([^\s\"'<>/=]+)(?:=\"([^\"]*)\")?")


@dataclass(frozen=True, slots=True)
class Tag:
    """A start or end tag; attribute values are plain text, without entities."""

    name: str
    attributes: tuple[tuple[str, str], ...] = ()
    is_end: bool = False
    is_self_closed: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """Text as it stands in the markup, with its entities."""

    source: str


@dataclass(frozen=True, slots=True)
class RawText:
    """The content of a raw element."""

    element: str
    source: str


@dataclass(frozen=True, slots=True)
class Comment:
    """What is between `<!--` and `-->`."""

    source: str


Token = Tag | Text | RawText | Comment


def read_tokens(markup: str) -> Iterator[Token]:
    """The tokens in their order; declarations are left out."""
    position = 0
    while match := _TOKEN.match(markup, position):
        position = match.end()
        name = match["name"]
        if name is not None:
            tag = _tag(match)
            yield tag
            if tag.name in RAW_ELEMENTS and not tag.is_end:
                end = re.compile(f"</{tag.name}(?=[\\s/>])", re.IGNORECASE).search(markup, position)
                until = end.start() if end else len(markup)
                if until > position:
                    yield RawText(tag.name, markup[position:until])
                position = until
        elif match["comment"] is not None:
            yield Comment(match["comment"])
        elif match["text"] is not None:
            yield Text(match["text"])


def write_token(token: Token) -> str:
    """The token as markup."""
    match token:
        case Text(source) | RawText(_, source):
            return source
        case Comment(source):
            return f"<!--{source}-->"
        case Tag(name, attributes, is_end, is_self_closed):
            if is_end:
                return f"</{name}>"
            written = "".join(f' {key}="{html.escape(value)}"' for key, value in attributes)
            return f"<{name}{written}{' /' if is_self_closed else ''}>"


def _tag(match: re.Match[str]) -> Tag:
    attributes = tuple(
        (found[1].lower(), html.unescape(found[2] or ""))
        for found in _ATTRIBUTE.finditer(match["attributes"])
    )
    is_self_closed = match["attributes"].endswith("/")
    return Tag(match["name"].lower(), attributes, bool(match["closing"]), is_self_closed)

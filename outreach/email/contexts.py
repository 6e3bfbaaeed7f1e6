"""How a value is written, by the place it stands in.

Every encoder takes plain text and returns what may stand there, whatever the text is. What no
message can carry (NUL, lone surrogates) is left out everywhere.
"""

import html
import re
from collections.abc import Callable
from enum import StrEnum
from urllib.parse import quote


class Context(StrEnum):
    """Where a placeholder stands. The values are stored with compiled emails."""

    #: Text or an attribute of the HTML part.
    HTML = "html"
    #: An attribute's whole URL, or its beginning: the value must be an absolute URL.
    URL = "url"
    #: Inside a URL, in any part: percent-encoded, so that it stays within its part.
    URL_PART = "url_part"
    #: Inside mailto:, tel: or sms:, where `@` and `+` are written plainly.
    URL_OPAQUE = "url_opaque"
    #: The subject: one line.
    HEADER = "header"
    #: The plain-text part.
    TEXT = "text"
    #: The same as URL, in the plain-text part.
    TEXT_URL = "text_url"


#: What a link leads to when its value is no URL that may be followed.
NO_URL = "#"

_NOT_CARRIED = re.compile(r"[\0\ud800-\udfff]")
_NOT_FOR_HTML = re.compile(r"[&<>\"'\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_CONTROLS = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# Also what `str.splitlines` and mail software take for the end of a line.
_NOT_FOR_HEADERS = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_NOT_PLAIN_IN_URLS = re.compile(r"[^A-Za-z0-9_.~-]")
_URL = re.compile(r"https?://[^\s/?#\\@:]|mailto:[^\s?]", re.IGNORECASE)
_URL_PLAIN = re.compile(r"https://[A-Za-z0-9.-]+(?:[/?#][A-Za-z0-9_.~:/?#@!$*+,;=%-]*)?")
_URL_RESERVED = "/:?#[]@!$&'()*+,;=%~"


def encode_html(value: str) -> str:
    """Escaped for text and for attributes in quotes; inside a comment too, as no `>` is left."""
    if _NOT_FOR_HTML.search(value) is None:
        return value
    return html.escape(_CONTROLS.sub("", value))


def encode_text(value: str) -> str:
    """As it is."""
    return _NOT_CARRIED.sub("", value)


def encode_header(value: str) -> str:
    """One line: line breaks and control characters become one space each run."""
    if _NOT_FOR_HEADERS.search(value) is None:
        return value
    return _NOT_FOR_HEADERS.sub(" ", value).strip()


def encode_url_part(value: str) -> str:
    """Percent-encoded, `/` too."""
    if _NOT_PLAIN_IN_URLS.search(value) is None:
        return value
    return quote(encode_text(value), safe="")


def encode_url_opaque(value: str) -> str:
    """Percent-encoded but for `@` and `+`."""
    return quote(encode_text(value), safe="@+")


def is_url(value: str) -> bool:
    """Whether the value may be a link by itself: absolute, and http, https or mailto."""
    return _URL.match(value.strip()) is not None


def encode_text_url(value: str) -> str:
    """An absolute http, https or mailto URL, with what may not stand in it percent-encoded;
    anything else becomes NO_URL.
    """
    if _URL_PLAIN.fullmatch(value) is not None:
        return value
    value = value.strip()
    if _URL.match(value) is None:
        return NO_URL
    return quote(encode_text(value), safe=_URL_RESERVED)


def encode_url(value: str) -> str:
    """The same, escaped for an attribute."""
    if _URL_PLAIN.fullmatch(value) is not None:
        return value
    return html.escape(encode_text_url(value))


ENCODERS: dict[Context, Callable[[str], str]] = {
    Context.HTML: encode_html,
    Context.URL: encode_url,
    Context.URL_PART: encode_url_part,
    Context.URL_OPAQUE: encode_url_opaque,
    Context.HEADER: encode_header,
    Context.TEXT: encode_text,
    Context.TEXT_URL: encode_text_url,
}

#: In these a value in which `find_special` finds nothing stands as it is.
PLAIN_CONTEXTS = frozenset({Context.HTML, Context.HEADER, Context.TEXT})
find_special = re.compile(r"[&<>\"'\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]").search

# A placeholder without value is delivered as it stands, also where a URL was expected.
_UNFILLED: dict[Context, Callable[[str], str]] = ENCODERS | {
    Context.URL: encode_url_part,
    Context.TEXT_URL: encode_url_part,
}


def encode_unfilled(source: str, context: Context) -> str:
    """A placeholder that got no value, written as it stands in the template."""
    return _UNFILLED[context](source)


def url_context(before: str) -> Context:
    """The context of a placeholder inside a URL attribute, by what stands before it."""
    if not before.strip():
        return Context.URL
    scheme = before.lstrip().partition(":")[0].lower()
    opaque = scheme in {"mailto", "tel", "sms"} and ":" in before
    return Context.URL_OPAQUE if opaque else Context.URL_PART

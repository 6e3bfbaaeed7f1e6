"""The body of an email without what runs or submits, and Outlook's conditional comments with it."""

import html
import re

import nh3

from outreach.email.css import clean_css
from outreach.email.markup import (
    Comment,
    RawText,
    Tag,
    Text,
    Token,
    names,
    read_tokens,
    write_token,
)

#: Attributes whose value is a URL.
URL_ATTRIBUTES = frozenset({"href", "src", "background", "cite"})

ALLOWED_TAGS = names(
    "a abbr address area article aside b bdi bdo big blockquote br caption center cite code col "
    "colgroup dd del details dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 "
    "header hr i img ins kbd li main map mark nav ol p pre q rp rt ruby s samp section small span "
    "strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr"
)
_REMOVED_WITH_CONTENT = names(
    "script style iframe object embed applet svg math template noscript title textarea select "
    "datalist xmp noembed noframes video audio canvas"
)
_ANYWHERE = names(
    "align bgcolor background border class color dir height hspace id lang role style title valign "
    "vspace width"
)
_BY_TAG = {
    "a": {"href", "name", "target", "rel"},
    "area": {"href", "alt", "shape", "coords", "target"},
    "blockquote": {"cite"},
    "font": {"face", "size"},
    "hr": {"size", "noshade"},
    "img": {"src", "alt", "usemap"},
    "map": {"name"},
    "ol": {"start", "type", "reversed"},
    "table": {"cellpadding", "cellspacing", "rules", "frame", "summary"},
    "td": {"colspan", "rowspan", "nowrap", "headers", "scope", "abbr"},
    "th": {"colspan", "rowspan", "nowrap", "headers", "scope", "abbr"},
    "time": {"datetime"},
    "ul": {"type"},
}
_SCHEMES = frozenset({"http", "https", "mailto", "tel", "sms", "cid"})
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_IGNORED_IN_URLS = re.compile(r"[\0-\x20\x7f]")

# `[if mso]>…<![endif]`, `[if !mso]><!` and `<![endif]`: what Outlook reads and others skip.
_CONDITIONAL = re.compile(r"(\[if [\w\s!|&().]{1,60}\]>)(.*)<!\[endif\]", re.DOTALL | re.ASCII)
_REVEALED = re.compile(r"\[if [\w\s!|&().]{1,60}\]><!|<!\[endif\]", re.ASCII)
_VML_TAG = re.compile(r"(?:[vow]:[a-z0-9]+|xml)", re.IGNORECASE | re.ASCII)
_CONDITIONAL_TOKEN = re.compile(
    r"<style[^<>]*>(?P<css>[^<]*)</style\s*>"
    r"|<(?P<closing>/?)(?P<name>[a-zA-Z][a-zA-Z0-9]*(?::[a-zA-Z0-9]+)?)"
    r"(?P<attributes>(?:\s+[^\s\"'<>/=]+(?:\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>/]+))?)*+)"
    r"\s*(?P<closed>/?)>"
    r"|(?P<text>[^<]+)|<",
    re.IGNORECASE,
)
_CONDITIONAL_ATTRIBUTE = re.compile(
    r"([a-zA-Z](?:[a-zA-Z0-9:-]*[a-zA-Z0-9])?)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'<>/]+))"
)


def is_url_kept(url: str) -> bool:
    """Whether the URL's scheme may stand in an email; a URL without scheme is kept."""
    scheme = _SCHEME.match(_IGNORED_IN_URLS.sub("", url))
    return scheme is None or scheme[1].lower() in _SCHEMES


def is_url_attribute(name: str) -> bool:
    """Whether its value is a URL, in whatever namespace the name is (`o:href` in Outlook's markup)."""
    return name.rpartition(":")[2] in URL_ATTRIBUTES


def kept_attribute(name: str, value: str) -> str | None:
    """The value as it may stand in an email; None: the attribute goes."""
    if name.rpartition(":")[2].startswith("on"):
        return None
    if is_url_attribute(name):
        return value.strip() if is_url_kept(value) else None
    if name == "lang" and value.lower() == "und":
        return None
    if name == "style":
        return clean_css(value).strip() or None
    return value


_CLEANER = nh3.Cleaner(
    tags=set(ALLOWED_TAGS),
    clean_content_tags=set(_REMOVED_WITH_CONTENT),
    attributes={"*": set(_ANYWHERE), **_BY_TAG},
    attribute_filter=lambda _, name, value: kept_attribute(name, value),
    generic_attribute_prefixes={"aria-"},
    strip_comments=False,
    link_rel=None,
    url_schemes=set(_SCHEMES),
)


def sanitise_body(markup: str) -> str:
    """A fragment of HTML with only what an email may hold.

    Comments go, but for Outlook's conditional ones, whose content is built anew.
    """
    kept: list[str] = []
    for token in read_tokens(_CLEANER.clean(markup)):
        written = _comment(token) if isinstance(token, Comment) else write_token(token)
        kept.append(written)
    return "".join(kept)


def sanitise_attributes(tag: Tag) -> tuple[tuple[str, str], ...]:
    """What may be kept of a body's attributes, judged as those of a div."""
    for token in read_tokens(_CLEANER.clean(write_token(Tag("div", tag.attributes)))):
        if isinstance(token, Tag):
            return token.attributes
    return ()


def sanitise_comment(comment: str) -> str:
    """A conditional comment, whole and built anew; "" for any other comment."""
    return _comment(Comment(comment))


def read_conditional(comment: str) -> list[Token] | None:
    """What Outlook sees in a conditional comment; None: it is none, or has no content."""
    match = _CONDITIONAL.fullmatch(comment)
    if match is None:
        return None
    tokens: list[Token] = []
    inside = ""
    for found in _CONDITIONAL_TOKEN.finditer(match[2]):
        name = (found["name"] or "").lower()
        if inside:
            inside = "" if found["closing"] and name == inside else inside
        elif name in _REMOVED_WITH_CONTENT:
            inside = "" if found["closing"] else name
        elif found["text"] is not None:
            tokens.append(Text(_escaped(found["text"])))
        elif found["css"] is not None:
            tokens += [Tag("style"), RawText("style", clean_css(found["css"]))]
            tokens.append(Tag("style", is_end=True))
        elif name in ALLOWED_TAGS or _VML_TAG.fullmatch(name):
            written = found["name"] if ":" in name else name
            is_end, is_closed = bool(found["closing"]), bool(found["closed"])
            tokens.append(Tag(written, _attributes(found), is_end, is_closed))
    return tokens


def write_conditional(comment: str, tokens: list[Token]) -> str:
    """The conditional comment with another content."""
    match = _CONDITIONAL.fullmatch(comment)
    assert match is not None
    return f"<!--{match[1]}{''.join(map(write_token, tokens))}<![endif]-->"


def _comment(comment: Comment) -> str:
    tokens = read_conditional(comment.source)
    if tokens is not None:
        return write_conditional(comment.source, tokens)
    return write_token(comment) if _REVEALED.fullmatch(comment.source) else ""


def _escaped(text: str) -> str:
    return text.replace(">", "&gt;")


def _attributes(found: re.Match[str]) -> tuple[tuple[str, str], ...]:
    kept = []
    for attribute in _CONDITIONAL_ATTRIBUTE.finditer(found["attributes"]):
        name = attribute[1].lower()
        quoted = next(group for group in attribute.groups()[1:] if group is not None)
        value = kept_attribute(name, html.unescape(quoted))
        if value is not None:
            kept.append((attribute[1] if ":" in attribute[1] else name, value))
    return tuple(kept)

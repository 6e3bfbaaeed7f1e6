"""A source's HTML, parsed, with its style sheets inlined, and taken apart into what is kept."""

import re
from dataclasses import dataclass

import css_inline

from outreach.email.css import clean_css
from outreach.email.findings import FINDINGS_MAX, EmailWarning
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
from outreach.email.sanitising import (
    ALLOWED_TAGS,
    URL_ATTRIBUTES,
    is_url_kept,
    read_conditional,
    sanitise_attributes,
    sanitise_comment,
)

_DOCUMENT_TAGS = names("html head body meta title style base")
_RUNS = names("script iframe object embed applet frame frameset")
_FORMS = names("form input button select textarea option fieldset")
_FRAME = re.compile(r"<(?:html|head|body|!doctype)\b", re.IGNORECASE)
_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{1,8}){0,3}")
_ABSOLUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|#|m[0-9a-z]+x[0-9]+z")

_INLINER = css_inline.CSSInliner(
    keep_style_tags=True,
    keep_at_rules=True,
    keep_link_tags=True,
    remove_inlined_selectors=True,
    load_remote_stylesheets=False,
)


class UnreadableDocument(ValueError):
    """The style sheets cannot be inlined."""


@dataclass(frozen=True, slots=True)
class SplitDocument:
    """`body` is not sanitised yet; all else is. `title` is HTML; `language` "" is not given."""

    body: str
    body_attributes: tuple[tuple[str, str], ...]
    title: str
    language: str
    styles: str
    conditionals: str
    warnings: tuple[EmailWarning, ...]


def split_document(markup: str, field: str) -> SplitDocument:
    """Parse, inline, take apart, and name what sanitising will remove."""
    # A parser takes comments at the start of a fragment out of its body.
    if _FRAME.search(markup) is None:
        markup = f"<html><body>{markup}"
    try:
        normal = _INLINER.inline(markup)
    except (css_inline.InlineError, ValueError) as error:
        raise UnreadableDocument(
            str(error).splitlines()[0] if str(error) else "unreadable"
        ) from error
    reader = _Reader(field)
    for token in read_tokens(normal):
        reader.take(token)
    return reader.split()


class _Reader:
    """Sorts a document's tokens."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._body: list[str] = []
        self._styles: list[str] = []
        self._conditionals: list[str] = []
        self._title: list[str] = []
        self._language = ""
        self._attributes: tuple[tuple[str, str], ...] = ()
        self._is_in_body = False
        self._is_in_title = False
        self._warnings: dict[tuple[str, str], EmailWarning] = {}

    def take(self, token: Token) -> None:
        if isinstance(token, Tag):
            self._look_at(token)
        if isinstance(token, Tag) and token.name in {"html", "body"}:
            self._take_frame(token)
        elif isinstance(token, RawText) and token.element == "style":
            self._styles.append(token.source)
        elif isinstance(token, Tag) and token.name == "style":
            pass
        elif self._is_in_body:
            self._body.append(write_token(token))
        elif isinstance(token, Comment):
            self._take_conditional(token.source)
        elif isinstance(token, Tag) and token.name == "title":
            self._is_in_title = not token.is_end
        elif isinstance(token, Text) and self._is_in_title:
            self._title.append(token.source.replace("<", "&lt;").strip())

    def split(self) -> SplitDocument:
        styles = "\n".join(self._styles)
        if "@import" in styles.lower():
            self._warn("REMOTE_STYLE_REMOVED", "@import", "Style sheets are not fetched")
        return SplitDocument(
            "".join(self._body),
            sanitise_attributes(Tag("body", self._attributes)),
            "".join(self._title),
            self._language,
            clean_css(styles).strip(),
            "".join(self._conditionals),
            tuple(self._warnings.values())[:FINDINGS_MAX],
        )

    def _take_conditional(self, comment: str) -> None:
        # The shell has these settings of its own; what hides from Outlook hides nothing any more.
        if read_conditional(comment) is not None and "OfficeDocumentSettings" not in comment:
            self._conditionals.append(sanitise_comment(comment))

    def _take_frame(self, tag: Tag) -> None:
        if tag.is_end:
            return
        if tag.name == "html":
            language = dict(tag.attributes).get("lang", "")
            if _LANGUAGE.fullmatch(language) and language.lower() != "und":
                self._language = language
        elif not self._is_in_body:
            self._is_in_body = True
            self._attributes = tag.attributes

    def _look_at(self, tag: Tag) -> None:
        """Name what will be removed."""
        if tag.is_end:
            return
        if tag.name in _RUNS:
            self._warn("SCRIPT_REMOVED", f"<{tag.name}>", "Nothing may run in an email")
        elif tag.name in _FORMS:
            self._warn("FORM_REMOVED", f"<{tag.name}>", "Mail programs show no forms")
        elif tag.name == "link":
            self._warn("REMOTE_STYLE_REMOVED", "<link>", "Style sheets are not fetched")
            return
        elif tag.name == "meta" and dict(tag.attributes).get("http-equiv", "").lower() == "refresh":
            self._warn("SCRIPT_REMOVED", "<meta refresh>", "Nothing may run in an email")
        elif tag.name not in ALLOWED_TAGS | _DOCUMENT_TAGS and not tag.name.startswith("mj-"):
            self._warn("UNKNOWN_TAG", f"<{tag.name[:40]}>", "No mail program knows it")
        for name, value in tag.attributes:
            if name.startswith("on"):
                self._warn("EVENT_HANDLER_REMOVED", name[:40], "Nothing may run in an email")
            elif name in URL_ATTRIBUTES and not is_url_kept(value):
                scheme = value.strip().partition(":")[0][:20]
                self._warn("URL_REMOVED", f"{name} with {scheme}:", "Such a URL is not followed")
            elif name in URL_ATTRIBUTES - {"cite"} and not _ABSOLUTE.match(value.strip()):
                self._warn(
                    "URL_RELATIVE", f"{name} of <{tag.name}>", "An email has no address of its own"
                )

    def _warn(self, code: str, what: str, why: str) -> None:
        removed = "is relative" if code == "URL_RELATIVE" else "is removed"
        self._warnings.setdefault(
            (code, what), EmailWarning(self._field, code, f"{what} {removed}: {why.lower()}.")
        )

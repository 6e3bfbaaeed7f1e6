"""`compile_email`: a template into what every recipient gets, but for the values."""

import html
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outreach.email.blocks import Blocks, EmailSource, Html, Mjml
from outreach.email.blocks_mjml import blocks_to_mjml
from outreach.email.compiled import CLIPPED_ABOVE_BYTES, CompiledEmail
from outreach.email.css import count_selectors
from outreach.email.document import SplitDocument, UnreadableDocument, split_document
from outreach.email.findings import EmailWarning, InvalidEmail, bounded
from outreach.email.headers import check_subject
from outreach.email.limits import PREHEADER_CHARACTERS_MAX, EmailLimits
from outreach.email.marks import UNSUBSCRIBE_URL, Marks
from outreach.email.mjml import BrokenMjml, compile_mjml
from outreach.email.nesting import is_too_deep
from outreach.email.placing import Placing
from outreach.email.plain_text import text_of
from outreach.email.sanitising import sanitise_body
from outreach.email.shell import wrap
from outreach.errors import Violation


def new_salt() -> str:
    """The random part of a compilation's tags; nobody who writes a value knows it."""
    return secrets.token_hex(6)


def compile_email(
    source: EmailSource,
    *,
    subject: str,
    preheader: str = "",
    text: str = "",
    variable_names: Sequence[str] | None,
    language: str = "en",
    limits: EmailLimits | None = None,
    field: str = "email",
    salt: Callable[[], str] = new_salt,
) -> CompiledEmail:
    """Compile once a template; raises InvalidEmail with every fault that was found.

    `text` "" is made from the HTML. `variable_names` are those of the columns; None: not known yet,
    so that no placeholder can be unknown. `language` is that of the document unless it names its
    own. `field` begins the paths of violations and warnings.
    """
    given = _Given(source, subject, preheader, text, field, limits or EmailLimits())
    faults = given.check_lines()
    unreadable = given.check_texts()
    if unreadable:
        raise InvalidEmail([*unreadable, *faults])
    marks = Marks(_unused_salt(given, salt))
    try:
        email = _Compilation(given, marks, variable_names, language).run()
    except InvalidEmail as error:
        raise InvalidEmail([*faults, *error.violations]) from None
    if faults:
        raise InvalidEmail(faults)
    return email


def _unused_salt(given: "_Given", salt: Callable[[], str]) -> str:
    while True:
        word = salt()
        if not any(word in text.lower() for text in given.texts()):
            return word


@dataclass(frozen=True, slots=True)
class _Given:
    source: EmailSource
    subject: str
    preheader: str
    text: str
    field: str
    limits: EmailLimits

    @property
    def source_field(self) -> str:
        return f"{self.field}.{type(self.source).__name__.lower()}"

    def texts(self) -> tuple[str, ...]:
        code = repr(self.source) if isinstance(self.source, Blocks) else self.source.code
        return code, self.subject, self.preheader, self.text

    def check_lines(self) -> list[Violation]:
        """What is wrong with subject and preheader; the rest can be compiled all the same."""
        violations = check_subject(f"{self.field}.subject", self.subject)
        if len(self.preheader) > PREHEADER_CHARACTERS_MAX:
            rule = f"At most {PREHEADER_CHARACTERS_MAX:,} characters; this has"
            violations.append(
                Violation(
                    f"{self.field}.preheader",
                    "FIELD_TOO_LONG",
                    f"{rule} {len(self.preheader):,}.",
                )
            )
        return violations

    def check_texts(self) -> list[Violation]:
        """What refuses the template before it is read."""
        code, *_ = self.texts()
        violations = [
            _too_long(field, self.limits.source_bytes_max)
            for field, part in ((self.source_field, code), (f"{self.field}.text", self.text))
            if _bytes(part) > self.limits.source_bytes_max
        ]
        for field, part in (
            (self.source_field, code),
            (f"{self.field}.preheader", self.preheader),
            (f"{self.field}.text", self.text),
        ):
            if "\0" in part:
                fault = "The text has a NUL character; remove it."
                violations.append(Violation(field, "TEMPLATE_MALFORMED", fault))
        if not isinstance(self.source, Blocks) and not code.strip():
            violations.append(Violation(self.source_field, "TEMPLATE_EMPTY", "Write the email."))
        return violations


class _Compilation:
    """One run of `compile_email`."""

    def __init__(
        self, given: _Given, marks: Marks, variable_names: Sequence[str] | None, language: str
    ) -> None:
        self._given = given
        self._marks = marks
        self._variable_names = variable_names
        self._language = language
        self._warnings: list[EmailWarning] = []
        self._has_preview = False

    def run(self) -> CompiledEmail:
        given, marks = self._given, self._marks
        subject = marks.mark(given.subject, f"{given.field}.subject")
        preheader = marks.mark(given.preheader, f"{given.field}.preheader")
        text = marks.mark(given.text, f"{given.field}.text")
        markup = self._markup()
        self._check_placeholders()
        document = self._document(markup)

        placing = Placing(marks, given.source_field)
        body = placing.in_body(sanitise_body(document.body))
        head = placing.in_html(document.title or ("" if "{{" in given.subject else _text(subject)))
        hidden = placing.in_html(_text(preheader))
        whole = wrap(
            body,
            language=document.language or self._language,
            title=head,
            preheader=hidden,
            styles=placing.in_style(document.styles),
            conditionals=placing.in_body(document.conditionals, is_shown=False),
            body_attributes=placing.in_attributes(document.body_attributes),
        )
        plain = placing.in_text(text) if text else placing.to_text(text_of(body))
        subject = placing.in_header(subject)
        self._check_placed(placing, whole, plain)
        return CompiledEmail(subject, whole, plain, hidden, placing.tags(), bounded(self._warnings))

    def _markup(self) -> str:
        """The source as HTML with marks; raises InvalidEmail."""
        source, field = self._given.source, self._given.source_field
        if isinstance(source, Html):
            return self._marks.mark(source.code, field, is_markup=True)
        if isinstance(source, Mjml):
            mjml = self._marks.mark(source.code, field, is_markup=True)
        else:
            mjml = blocks_to_mjml(source, field, self._marks)
        self._raise_if(self._marks.violations)
        try:
            compiled = compile_mjml(mjml, field)
        except BrokenMjml as error:
            raise InvalidEmail([error.violation]) from error
        self._warnings += compiled.warnings
        if compiled.has_preview and self._given.preheader:
            self._warn("PREHEADER_TWICE", "The MJML has an mj-preview, and a preheader is given.")
        return compiled.html

    def _check_placeholders(self) -> None:
        violations = list(self._marks.violations)
        names = self._variable_names
        if names is not None:
            known = {*names, UNSUBSCRIBE_URL}
            seen: dict[str, str] = {}
            for marked in self._marks.marked():
                if marked.placeholder.name not in known:
                    seen.setdefault(marked.placeholder.name, marked.field)
            violations += [
                Violation(
                    field,
                    "TEMPLATE_UNKNOWN_PLACEHOLDER",
                    f"No column provides {{{{{name}}}}}; map one to it, or take it out.",
                )
                for name, field in seen.items()
            ]
        self._raise_if(violations)

    def _document(self, markup: str) -> SplitDocument:
        given = self._given
        if _bytes(markup) > given.limits.html_bytes_max:
            raise InvalidEmail([_too_long(given.source_field, given.limits.html_bytes_max)])
        tags = markup.count("<")
        too_many = None
        if tags > given.limits.tags_max:
            too_many = f"At most {given.limits.tags_max:,} tags; simplify it."
        elif tags * count_selectors(markup) > given.limits.selector_matches_max:
            too_many = "The style sheets have too many selectors for so many tags; simplify them."
        if too_many is not None:
            raise InvalidEmail([Violation(given.source_field, "TEMPLATE_TOO_LONG", too_many)])
        if is_too_deep(markup, given.limits.depth_max):
            fault = (
                f"Elements stand inside each other more than {given.limits.depth_max} deep; "
                "close those that are open."
            )
            raise InvalidEmail([Violation(given.source_field, "TEMPLATE_MALFORMED", fault)])
        try:
            document = split_document(markup, given.source_field)
        except UnreadableDocument as error:
            fault = f"The style sheet can't be inlined: {error}."
            raise InvalidEmail(
                [Violation(given.source_field, "TEMPLATE_MALFORMED", fault)]
            ) from error
        self._warnings += document.warnings
        return document

    def _check_placed(self, placing: Placing, whole: str, plain: str) -> None:
        given = self._given
        violations = list(placing.violations)
        if not placing.has_unsubscribe_link:
            fault = (
                "Every email needs its unsubscribe link: put {{unsubscribe_url}} into a link or "
                "into the text."
            )
            violations.append(
                Violation(given.source_field, "TEMPLATE_UNSUBSCRIBE_URL_MISSING", fault)
            )
        if _bytes(whole) > given.limits.html_bytes_max:
            violations.append(_too_long(given.source_field, given.limits.html_bytes_max))
        self._raise_if(violations)
        for source in placing.not_placed():
            self._warn("PLACEHOLDER_REMOVED", f"{source} stood in a part that was removed.")
        if given.text and not placing.has_unsubscribe_text:
            self._warn(
                "TEXT_WITHOUT_UNSUBSCRIBE_URL",
                "The plain-text part has no {{unsubscribe_url}}.",
                field=f"{given.field}.text",
            )
        if _bytes(whole) > CLIPPED_ABOVE_BYTES:
            self._warn(
                "CLIPPED_BY_GMAIL",
                f"The HTML has {_bytes(whole):,} bytes; Gmail cuts a message at "
                f"{CLIPPED_ABOVE_BYTES:,}.",
            )
        if not plain.strip():
            self._warn("TEXT_EMPTY", "The plain-text part is empty.", field=f"{given.field}.text")

    def _warn(self, code: str, text: str, *, field: str | None = None) -> None:
        self._warnings.append(EmailWarning(field or self._given.source_field, code, text))

    @staticmethod
    def _raise_if(violations: Sequence[Violation]) -> None:
        if violations:
            raise InvalidEmail(violations)


def _text(plain: str) -> str:
    return html.escape(plain, quote=False)


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _too_long(field: str, bytes_max: int) -> Violation:
    return Violation(field, "TEMPLATE_TOO_LONG", f"At most {bytes_max:,} bytes; shorten it.")

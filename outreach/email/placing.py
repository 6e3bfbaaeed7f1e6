"""Marks into substitution tags: each placeholder by the context of the place it ended up in."""

import re
from collections.abc import Callable, Iterable

from outreach.email.compiled import SubstitutionTag
from outreach.email.contexts import Context, is_url, url_context
from outreach.email.marks import UNSUBSCRIBE_URL, Marks
from outreach.email.markup import Comment, RawText, Tag, Text, Token, read_tokens, write_token
from outreach.email.sanitising import is_url_attribute, read_conditional, write_conditional
from outreach.errors import Violation

_URL_BEFORE = re.compile(r"(?:https?://|mailto:)[^\s<>\"]*\Z", re.IGNORECASE)
_LOOK_BACK_CHARACTERS = 2_000


class Placing:
    """Collects the tags of one compilation, and what is wrong with where placeholders stand."""

    def __init__(self, marks: Marks, field: str) -> None:
        self.violations: list[Violation] = []
        self.has_unsubscribe_link = False
        self.has_unsubscribe_text = False
        self._marks = marks
        self._marked = marks.marked()
        self._field = field
        self._tags: dict[tuple[int, Context], str] = {}
        self._numbers: dict[str, tuple[int, Context]] = {}

    def in_body(self, markup: str, *, is_shown: bool = True) -> str:
        """Sanitised HTML; `is_shown` says whether a link in it counts as the unsubscribe link."""
        return "".join(self._token(token, is_shown) for token in read_tokens(markup))

    def in_html(self, markup: str) -> str:
        """HTML text without tags."""
        return self._marks.pattern.sub(lambda m: self._tag(int(m[1]), Context.HTML), markup)

    def in_attributes(self, attributes: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Plain attribute values."""
        return tuple((name, self._attribute("", name, value, False)) for name, value in attributes)

    def in_style(self, css: str) -> str:
        """CSS: no placeholder may stand there."""
        self._refuse_in_style(css)
        return css

    def in_header(self, text: str) -> str:
        """A header field."""
        return self._marks.pattern.sub(lambda m: self._tag(int(m[1]), Context.HEADER), text)

    def in_text(self, text: str) -> str:
        """A given plain-text part; a placeholder inside a URL is percent-encoded there too."""

        def placed(match: re.Match[str]) -> str:
            number = int(match[1])
            start = max(0, match.start() - _LOOK_BACK_CHARACTERS)
            url = _URL_BEFORE.search(text, start, match.start())
            self.has_unsubscribe_text |= self._name(number) == UNSUBSCRIBE_URL
            return self._tag(number, url_context(url[0]) if url else Context.TEXT)

        return self._marks.pattern.sub(placed, text)

    def to_text(self, text: str) -> str:
        """Text that was made from placed HTML: its tags become those of plain text."""
        others = {Context.HTML: Context.TEXT, Context.URL: Context.TEXT_URL}

        def placed(match: re.Match[str]) -> str:
            number, context = self._numbers[match[0]]
            self.has_unsubscribe_text |= self._name(number) == UNSUBSCRIBE_URL
            return self._tag(number, others.get(context, context))

        return self._marks.tag_pattern.sub(placed, text)

    def tags(self) -> tuple[SubstitutionTag, ...]:
        """All tags that were given out."""
        return tuple(
            SubstitutionTag(tag, marked.name, marked.fallback, marked.source, context)
            for (number, context), tag in self._tags.items()
            for marked in (self._marked[number].placeholder,)
        )

    def not_placed(self) -> list[str]:
        """The placeholders that stand nowhere any more, as they were written."""
        placed = {number for number, _ in self._tags}
        return [
            marked.placeholder.source[:80]
            for number, marked in enumerate(self._marked)
            if number not in placed
        ]

    def _token(self, token: Token, is_shown: bool) -> str:
        match token:
            case Text(source):
                self._look_for_link(self._marks.pattern.findall(source), is_shown)
                return self.in_html(source)
            case RawText(_, source):
                return self.in_style(source)
            case Comment(source):
                tokens = read_conditional(source)
                if tokens is None:
                    return write_token(token)
                return write_conditional(source, list(self._conditional(tokens)))
            case Tag():
                attributes = tuple(
                    (name, self._attribute(token.name, name, value, is_shown))
                    for name, value in token.attributes
                )
                return write_token(Tag(token.name, attributes, token.is_end, token.is_self_closed))

    def _conditional(self, tokens: Iterable[Token]) -> Iterable[Token]:
        for token in tokens:
            match token:
                case Text(source):
                    yield Text(self.in_html(source))
                case Tag():
                    attributes = tuple(
                        (name, self._attribute(token.name, name, value, False))
                        for name, value in token.attributes
                    )
                    yield Tag(token.name, attributes, token.is_end, token.is_self_closed)
                case RawText(element, source):
                    yield RawText(element, self.in_style(source))
                case Comment():
                    pass

    def _attribute(self, element: str, name: str, value: str, is_shown: bool) -> str:
        if self._marks.pattern.search(value) is None:
            return value
        if name == "style":
            return self.in_style(value)
        context: Callable[[re.Match[str]], Context] = lambda _: Context.HTML  # noqa: E731
        if is_url_attribute(name.lower()):
            numbers = self._marks.pattern.findall(value)
            self._look_for_link(numbers, is_shown and element in {"a", "area"} and name == "href")
            context = lambda m: url_context(value[: m.start()])  # noqa: E731
        return self._marks.pattern.sub(lambda m: self._tag(int(m[1]), context(m)), value)

    def _look_for_link(self, numbers: Iterable[str], is_shown: bool) -> None:
        if is_shown and any(self._name(int(number)) == UNSUBSCRIBE_URL for number in numbers):
            self.has_unsubscribe_link = True

    def _refuse_in_style(self, css: str) -> None:
        for number in dict.fromkeys(self._marks.pattern.findall(css)):
            source = self._marked[int(number)].placeholder.source[:80]
            fault = f"{source} stands in a style; a placeholder may stand in text and in URLs."
            self._refuse("TEMPLATE_MALFORMED", fault)
            self._tag(int(number), Context.HTML)

    def _tag(self, number: int, context: Context) -> str:
        tag = self._tags.get((number, context))
        if tag is None:
            tag = self._tags[number, context] = self._marks.tag(len(self._tags))
            self._numbers[tag] = (number, context)
            fallback = self._marked[number].placeholder.fallback
            if context in {Context.URL, Context.TEXT_URL} and fallback and not is_url(fallback):
                source = self._marked[number].placeholder.source[:80]
                fault = f"{source} is a whole URL; its fallback must be one too (https://…)."
                self._refuse("TEMPLATE_MALFORMED", fault)
        return tag

    def _refuse(self, reason: str, text: str) -> None:
        violation = Violation(self._field, reason, text)
        if violation not in self.violations:
            self.violations.append(violation)

    def _name(self, number: int) -> str:
        return self._marked[number].placeholder.name

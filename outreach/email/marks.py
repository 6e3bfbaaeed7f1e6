"""Placeholders step aside while the markup is compiled: each becomes a mark, a word that no
parser, sanitiser or inliner changes.
"""

import html
import re
from dataclasses import dataclass

from outreach.email.findings import line_of
from outreach.errors import Violation
from outreach.template.placeholders import MalformedTemplate, Placeholder, parse_template

#: In one text. Finding them takes time by their number and by the length of the text.
PLACEHOLDERS_MAX = 2_000
UNSUBSCRIBE_URL = "unsubscribe_url"


@dataclass(frozen=True, slots=True)
class MarkedPlaceholder:
    """A placeholder and the field in which it was first seen."""

    placeholder: Placeholder
    field: str


class Marks:
    """The marks of one compilation. `salt` (lower-case letters and digits) makes them words that
    occur nowhere else.
    """

    def __init__(self, salt: str) -> None:
        self.pattern = re.compile(f"m{salt}x([0-9]+)z")
        self.tag_pattern = re.compile(f"t{salt}x[0-9]+z")
        self.violations: list[Violation] = []
        self._salt = salt
        self._marked: list[MarkedPlaceholder] = []
        self._numbers: dict[Placeholder, int] = {}

    def mark(self, text: str, field: str, *, is_markup: bool = False) -> str:
        """The text with marks for its placeholders; malformed ones become violations and stay.

        In markup a fallback may be written with entities: `{{name|R&amp;D}}`.
        """
        if "{{" not in text:
            return text
        if text.count("{{") > PLACEHOLDERS_MAX:
            fault = f"At most {PLACEHOLDERS_MAX:,} placeholders in one text."
            self.violations.append(Violation(field, "TEMPLATE_TOO_LONG", fault))
            return text
        try:
            template = parse_template(text)
        except MalformedTemplate as error:
            self.violations += [
                Violation(
                    field,
                    "TEMPLATE_MALFORMED",
                    f"{place.text} (line {line_of(text, place.position)}).",
                )
                for place in error.places
            ]
            return text
        pieces = [template.literals[0]]
        for placeholder, literal in zip(template.placeholders, template.literals[1:], strict=True):
            known = placeholder
            if is_markup and placeholder.fallback:
                fallback = html.unescape(placeholder.fallback)
                known = Placeholder(placeholder.name, fallback, placeholder.source)
            pieces += [self._mark_of(known, field), literal]
        return "".join(pieces)

    def marked(self) -> tuple[MarkedPlaceholder, ...]:
        """All placeholders, in the order of their numbers."""
        return tuple(self._marked)

    def tag(self, number: int) -> str:
        """The substitution tag of this number: letters and digits only, none begins another."""
        return f"t{self._salt}x{number}z"

    def _mark_of(self, placeholder: Placeholder, field: str) -> str:
        number = self._numbers.get(placeholder)
        if number is None:
            number = self._numbers[placeholder] = len(self._marked)
            self._marked.append(MarkedPlaceholder(placeholder, field))
        return f"m{self._salt}x{number}z"

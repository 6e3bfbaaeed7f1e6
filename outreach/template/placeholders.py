"""Placeholders of a template: `{{name}}`, `{{ name }}`, `{{name|fallback text}}`. No logic, no
expressions.

What counts as what:

- `{{` opens a placeholder, the next `}}` closes it. Spaces around the name and around the fallback
  do not matter.
- The first `|` ends the name; what follows is the fallback, which may be empty, hold further `|`,
  single braces and line breaks.
- A lone `{` or `}`, and a `}}` that closes nothing, are text.
- Malformed, and refused by name: `{{` without `}}`, a further `{{` before the `}}`, no name at all,
  and a name that is not `[A-Za-z_][A-Za-z0-9_]*` (names are case-sensitive).

A template is parsed once, bound once to a campaign's columns, and then rendered by one `join` a
contact.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_SHOWN_CHARACTERS_MAX = 40


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One placeholder. `source` is its text in the template, braces included; no fallback is None,
    an empty one "".
    """

    name: str
    fallback: str | None
    source: str


@dataclass(frozen=True, slots=True)
class MalformedPlaceholder:
    """A place that looks like a placeholder and is none.

    `position` is the index of its first `{` in the text, in characters; `text` says what is wrong
    and what to do.
    """

    position: int
    source: str
    text: str


class MalformedTemplate(ValueError):
    """The template has malformed placeholders; all of them are in `places`, in the order of the
    text.
    """

    def __init__(self, places: Sequence[MalformedPlaceholder]) -> None:
        super().__init__("; ".join(place.text for place in places))
        self.places = tuple(places)


class UnknownPlaceholder(ValueError):
    """The template names variables that no column provides; all of them are in `names`."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__("no column provides " + ", ".join(names))
        self.names = tuple(names)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: literal text and placeholders take turns, and it begins and ends with a
    literal.

    So `len(literals) == len(placeholders) + 1`; a literal may be empty.
    """

    text: str
    literals: tuple[str, ...]
    placeholders: tuple[Placeholder, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables the template uses, each once, in the order of first use."""
        return tuple(dict.fromkeys(placeholder.name for placeholder in self.placeholders))

    @property
    def rendered_characters_min(self) -> int:
        """No contact's text is shorter than this: a value that is there has at least one
        character.
        """
        shortest = (1 if p.fallback is None else min(1, len(p.fallback)) for p in self.placeholders)
        return sum(map(len, self.literals)) + sum(shortest)

    def bind(self, columns: Sequence[str]) -> "BoundTemplate":
        """The template for contacts whose values come in the order of `columns` (variable names).

        Raises UnknownPlaceholder when a placeholder is not among them.
        """
        unknown = validate_placeholders(self, columns)
        if unknown:
            raise UnknownPlaceholder(unknown)
        position = {name: index for index, name in enumerate(columns)}
        return BoundTemplate(self, tuple(position[p.name] for p in self.placeholders))


class BoundTemplate:
    """A template tied to the order of the values; made by `Template.bind`, used for every contact
    of a campaign.
    """

    __slots__ = ("_pieces", "_required", "_slots", "template")

    def __init__(self, template: Template, indexes: Sequence[int]) -> None:
        self.template = template
        self._pieces: list[str] = [""] * (2 * len(template.placeholders) + 1)
        self._pieces[::2] = template.literals
        # Where in `_pieces`, which value, what instead of a missing one.
        self._slots = [
            (2 * n + 1, index, p.source if p.fallback is None else p.fallback)
            for n, (p, index) in enumerate(zip(template.placeholders, indexes, strict=True))
        ]
        required: dict[int, str] = {
            index: p.name
            for p, index in zip(template.placeholders, indexes, strict=True)
            if p.fallback is None
        }
        self._required = tuple(required.items())

    def render(self, values: Sequence[str | None]) -> str:
        """The text for one contact.

        A value of None or "" is missing: the fallback takes its place, and without one the
        placeholder is delivered as it stands in the template (the product's rule). Values are plain
        text; they are never parsed again.
        """
        pieces = self._pieces.copy()
        for place, index, otherwise in self._slots:
            pieces[place] = values[index] or otherwise
        return "".join(pieces)

    def missing(self, values: Sequence[str | None]) -> tuple[str, ...]:
        """The variables without a value and without a fallback somewhere in the template; empty:
        complete.
        """
        return tuple(name for index, name in self._required if not values[index])


def parse_template(text: str) -> Template:
    """Parse a template's text; raises MalformedTemplate that names every malformed place."""
    literals: list[str] = []
    placeholders: list[Placeholder] = []
    malformed: list[MalformedPlaceholder] = []
    literal_start = 0
    opening = text.find("{{")
    while opening >= 0:
        closing = text.find("}}", opening + 2)
        following = text.find("{{", opening + 2)
        end = len(text) if closing < 0 else closing + 2
        if closing < 0 or 0 <= following < closing:
            end = following if following >= 0 else len(text)
            malformed.append(_malformed(text, opening, end, "is not closed by }}"))
        else:
            name, bar, fallback = text[opening + 2 : closing].partition("|")
            name = name.strip()
            if VARIABLE_NAME.fullmatch(name) is None:
                malformed.append(_malformed(text, opening, end, _why_no_name(name)))
            else:
                literals.append(text[literal_start:opening])
                placeholders.append(
                    Placeholder(name, fallback.strip() if bar else None, text[opening:end])
                )
                literal_start = end
        opening = text.find("{{", end)
    if malformed:
        raise MalformedTemplate(malformed)
    literals.append(text[literal_start:])
    return Template(text, tuple(literals), tuple(placeholders))


def validate_placeholders(template: Template, available_names: Sequence[str]) -> list[str]:
    """The names the template uses and `available_names` lacks, each once, in the order of first
    use.
    """
    available = frozenset(available_names)
    return [name for name in template.names if name not in available]


def _malformed(text: str, start: int, end: int, why: str) -> MalformedPlaceholder:
    source = text[start:end]
    if len(source) > _SHOWN_CHARACTERS_MAX:
        source = source[:_SHOWN_CHARACTERS_MAX] + "…"
    return MalformedPlaceholder(start, source, f"{source} {why}")


def _why_no_name(name: str) -> str:
    if not name:
        return "has no name; write {{name}} with the name of a variable"
    return "is not the name of a variable: letters, digits and _, not a digit first"

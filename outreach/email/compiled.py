"""A compiled email, and the values of one recipient in it."""

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from outreach.email.contexts import (
    ENCODERS,
    PLAIN_CONTEXTS,
    Context,
    encode_unfilled,
    find_special,
    is_url,
)
from outreach.email.findings import EmailWarning
from outreach.email.marks import UNSUBSCRIBE_URL
from outreach.template.placeholders import UnknownPlaceholder

#: Of `CompiledEmail.to_dict`; another version is refused.
FORMAT_VERSION = 1
#: Gmail shows no more of a message's HTML.
CLIPPED_ABOVE_BYTES = 102 * 1024

_URL_CONTEXTS = frozenset({Context.URL, Context.TEXT_URL})


@dataclass(frozen=True, slots=True)
class SubstitutionTag:
    """The word that stands for one placeholder in one context.

    `source` is the placeholder as it was written; no `fallback` is None.
    """

    tag: str
    name: str
    fallback: str | None
    source: str
    context: Context


@dataclass(frozen=True, slots=True)
class RenderedEmail:
    """What one recipient gets. `preheader` is plain text; sizes are of UTF-8, in bytes."""

    subject: str
    preheader: str
    html: str
    text: str

    @property
    def html_bytes(self) -> int:
        return len(self.html.encode())

    @property
    def text_bytes(self) -> int:
        return len(self.text.encode())

    @property
    def is_clipped(self) -> bool:
        """Whether Gmail cuts the message."""
        return self.html_bytes > CLIPPED_ABOVE_BYTES


@dataclass(frozen=True, slots=True)
class CompiledEmail:
    """An email with substitution tags in place of placeholders; `compile_email` makes it.

    `preheader` is HTML, as it stands in `html`.
    """

    subject: str
    html: str
    text: str
    preheader: str
    tags: tuple[SubstitutionTag, ...]
    warnings: tuple[EmailWarning, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The variables it uses, each once, without `unsubscribe_url`."""
        names = dict.fromkeys(tag.name for tag in self.tags)
        return tuple(name for name in names if name != UNSUBSCRIBE_URL)

    @property
    def html_bytes(self) -> int:
        """The size of the HTML before values are in it, in UTF-8."""
        return len(self.html.encode())

    @property
    def text_bytes(self) -> int:
        """The size of the plain-text part before values are in it, in UTF-8."""
        return len(self.text.encode())

    @property
    def content_hash(self) -> str:
        """SHA-256 of all of it, in hexadecimal: another hash is another content, other tags too."""
        return hashlib.sha256(orjson.dumps(self.to_dict(), option=orjson.OPT_SORT_KEYS)).hexdigest()

    def bind(self, columns: Sequence[str]) -> "BoundEmail":
        """The email for contacts whose values come in the order of `columns` (variable names).

        Raises UnknownPlaceholder when a variable is not among them. A column named
        `unsubscribe_url` is not used: the link of the recipient is.
        """
        unknown = [name for name in self.names if name not in frozenset(columns)]
        if unknown:
            raise UnknownPlaceholder(unknown)
        return BoundEmail(self, columns)

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can carry, with its version."""
        raw = asdict(self)
        return {"version": FORMAT_VERSION, **raw}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "CompiledEmail":
        """The opposite of `to_dict`; ValueError for another version, KeyError and TypeError for
        what is no such form.
        """
        if raw["version"] != FORMAT_VERSION:
            raise ValueError(f"compiled email of version {raw['version']}, not {FORMAT_VERSION}")
        return cls(
            subject=raw["subject"],
            html=raw["html"],
            text=raw["text"],
            preheader=raw["preheader"],
            tags=tuple(
                SubstitutionTag(**(tag | {"context": Context(tag["context"])}))
                for tag in raw["tags"]
            ),
            warnings=tuple(EmailWarning(**warning) for warning in raw["warnings"]),
        )


class _Variable:
    """The tags of one variable, sorted for speed: this runs for every message."""

    __slots__ = ("encoders", "index", "others", "otherwise", "plain")

    def __init__(self, index: int, tags: Sequence[SubstitutionTag]) -> None:
        self.index = index
        self.otherwise = {tag.tag: _otherwise(tag) for tag in tags}
        self.encoders = [(tag.tag, ENCODERS[tag.context]) for tag in tags]
        self.plain = [tag.tag for tag in tags if tag.context in PLAIN_CONTEXTS]
        self.others = [
            (tag.tag, ENCODERS[tag.context]) for tag in tags if tag.context not in PLAIN_CONTEXTS
        ]


class BoundEmail:
    """An email tied to the order of the values; made by `CompiledEmail.bind`, used for every
    contact of a campaign.

    A value of None or "" is missing: the fallback takes its place, and without one the placeholder
    is delivered as it stands (the product's rule). Values are plain text, are written for the place
    they stand in, and are never parsed again.
    """

    __slots__ = ("_parts", "_required", "_urls", "_variables", "email")

    def __init__(self, email: CompiledEmail, columns: Sequence[str]) -> None:
        self.email = email
        position = {name: index for index, name in enumerate(columns)}
        position[UNSUBSCRIBE_URL] = len(columns)
        self._variables = [
            _Variable(position[name], [tag for tag in email.tags if tag.name == name])
            for name in dict.fromkeys(tag.name for tag in email.tags)
        ]
        self._required = {
            position[tag.name]: tag.name for tag in email.tags if tag.fallback is None
        }
        self._urls = {
            position[tag.name]: tag.name for tag in email.tags if tag.context in _URL_CONTEXTS
        }
        known = {tag.tag for tag in email.tags}
        words = re.compile("(" + "|".join(map(re.escape, known)) + ")") if known else None
        # Literals and tags take turns, as `re.split` with a group gives them.
        self._parts = [
            words.split(part) if words else [part]
            for part in (email.subject, email.preheader, email.html, email.text)
        ]

    def substitutions(self, values: Sequence[str | None], unsubscribe_url: str) -> dict[str, str]:
        """One recipient's text for every tag, as SendGrid's `substitutions` takes it."""
        given = (*values, unsubscribe_url)
        texts: dict[str, str] = {}
        for variable in self._variables:
            value = given[variable.index]
            if not value:
                texts |= variable.otherwise
            elif find_special(value) is None:
                for tag in variable.plain:
                    texts[tag] = value
                for tag, encode in variable.others:
                    texts[tag] = encode(value)
            else:
                for tag, encode in variable.encoders:
                    texts[tag] = encode(value)
        return texts

    def missing(self, values: Sequence[str | None]) -> tuple[str, ...]:
        """The variables without a value and without a fallback somewhere; empty: complete."""
        return tuple(
            name
            for index, name in self._required.items()
            if index < len(values) and not values[index]
        )

    def not_urls(self, values: Sequence[str | None]) -> tuple[str, ...]:
        """The variables that stand for a whole URL and whose value is none (it becomes `#`)."""
        return tuple(
            name
            for index, name in self._urls.items()
            if index < len(values) and (value := values[index]) and not is_url(value)
        )

    def render(self, values: Sequence[str | None], unsubscribe_url: str) -> RenderedEmail:
        """The email as the provider makes it of the same substitutions."""
        substitutions = self.substitutions(values, unsubscribe_url)
        subject, preheader, html_part, text = (
            "".join(
                substitutions[piece] if index % 2 else piece for index, piece in enumerate(pieces)
            )
            for pieces in self._parts
        )
        return RenderedEmail(subject, html.unescape(preheader), html_part, text)


def _otherwise(tag: SubstitutionTag) -> str:
    if tag.fallback is None:
        return encode_unfilled(tag.source, tag.context)
    # An empty link is none: it would lead to the page that shows the email.
    return ENCODERS[tag.context](tag.fallback)

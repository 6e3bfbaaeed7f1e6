"""Reading the fields of a request; every one that breaks a rule is collected, and all are told."""

from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar
from uuid import UUID

from outreach.errors import OutreachError, Violation

Kind = TypeVar("Kind", bound=IntEnum)


class Fields:
    """Collects violations while a request is read; `check` refuses it when there are any.

    A method that finds a fault gives some value of its type, which is not used: `check` comes first.
    """

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def check(self) -> None:
        """INVALID_REQUEST with all that was found."""
        if self.violations:
            raise OutreachError.invalid(*self.violations)

    def refuse(self, field: str, reason: str, text: str) -> None:
        """Note one fault."""
        self.violations.append(Violation(field, reason, text))

    def uuid(self, field: str, text: str) -> UUID:
        """A required id."""
        if not text:
            self.refuse(field, "FIELD_REQUIRED", "Give an id.")
            return UUID(int=0)
        return self._uuid(field, text)

    def optional_uuid(self, field: str, text: str) -> UUID | None:
        """An id, or None when it is not given."""
        return self._uuid(field, text) if text else None

    def _uuid(self, field: str, text: str) -> UUID:
        # Only the usual form: UUID() also takes braces, `urn:uuid:` and missing hyphens.
        try:
            value = UUID(text)
        except ValueError:
            value = UUID(int=0)
        if str(value) != text.lower():
            self.refuse(
                field,
                "FIELD_INVALID",
                "Give a UUID, as in 018f4e6a-7c1b-7d3e-9a55-0123456789ab.",
            )
        return value

    def choice(self, field: str, number: int, kind: type[Kind], default: Kind | None) -> Kind:
        """An enum's value; 0 means `default`, and without one it is required."""
        if number == 0 and default is not None:
            return default
        if number == 0:
            names = ", ".join(choice.name for choice in kind)
            self.refuse(field, "FIELD_REQUIRED", f"Choose one of {names}.")
        elif number not in frozenset(kind):
            names = ", ".join(choice.name for choice in kind)
            self.refuse(field, "FIELD_INVALID", f"There is no value {number}; choose of {names}.")
        else:
            return kind(number)
        return next(iter(kind))

    def choices(self, field: str, numbers: Iterable[int], kind: type[Kind]) -> tuple[Kind, ...]:
        """Several of an enum's values."""
        return tuple(
            self.choice(f"{field}[{index}]", number, kind, None)
            for index, number in enumerate(numbers)
        )

    def text(self, field: str, text: str, characters_max: int) -> str:
        """A text of limited length, without NUL characters."""
        if len(text) > characters_max:
            self.refuse(field, "FIELD_TOO_LONG", f"At most {characters_max:,} characters.")
        if "\0" in text:
            self.refuse(field, "FIELD_INVALID", "The text has a NUL character; remove it.")
        return text

    def page_size(self, size: int, *, default: int, maximum: int) -> int:
        """0 means `default`."""
        if not 0 <= size <= maximum:
            self.refuse("page_size", "FIELD_OUT_OF_RANGE", f"Give 1 to {maximum:,}, or 0.")
        return size or default

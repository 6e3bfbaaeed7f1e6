"""What compiling says about a template: what refuses it, and what its author should look at."""

from collections.abc import Sequence
from dataclasses import dataclass

from outreach.errors import Violation

#: A template has thousands of faults when it is not meant as one; the first say enough.
FINDINGS_MAX = 20


@dataclass(frozen=True, slots=True)
class EmailWarning:
    """Something that does not keep the email from being sent.

    `code` is for programs, `text` for people; `field` as in Violation. No personal data.
    """

    field: str
    code: str
    text: str


class InvalidEmail(ValueError):
    """The template cannot be sent; `violations` says why, at least one and at most FINDINGS_MAX."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(violation.text for violation in violations[:FINDINGS_MAX]))
        self.violations = tuple(violations[:FINDINGS_MAX])


def line_of(text: str, position: int) -> int:
    """The line, counted from 1, in which the character at `position` stands."""
    return text.count("\n", 0, position) + 1

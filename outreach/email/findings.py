"""What compiling says about a template: what refuses it, and what its author should look at."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from outreach.errors import Violation

#: A template has thousands of faults when it is not meant as one; the first say enough.
FINDINGS_MAX = 20
#: So that many of one kind do not hide the others.
WARNINGS_PER_CODE_MAX = 10

#: Every code of EmailWarning, with what it means; docs/api.md lists them.
WARNINGS: Mapping[str, str] = MappingProxyType(
    {
        "CLIPPED_BY_GMAIL": "The HTML is larger than 102 KB: Gmail shows that much, and a link to the rest.",
        "SCRIPT_REMOVED": "A script, a frame or an embedded object was removed.",
        "EVENT_HANDLER_REMOVED": "An attribute that runs a script (`onclick`…) was removed.",
        "FORM_REMOVED": "A form or an input was removed.",
        "URL_REMOVED": "A URL was removed whose scheme no mail program follows.",
        "URL_RELATIVE": "A URL has no scheme and host; in an email it leads nowhere.",
        "REMOTE_STYLE_REMOVED": "A style sheet of another place was removed; it is not fetched.",
        "UNKNOWN_TAG": "A tag that no mail program, or MJML, knows was removed.",
        "PLACEHOLDER_REMOVED": "A placeholder stood in a part that was removed.",
        "PREHEADER_TWICE": "The MJML has an `mj-preview`, and a preheader is given: both are shown.",
        "TEXT_EMPTY": "The plain-text part is empty.",
        "TEXT_WITHOUT_UNSUBSCRIBE_URL": "The given plain-text part has no `{{unsubscribe_url}}`.",
        "VALUE_NOT_A_URL": "In a preview: a value stands for a whole URL and is none; the link is `#`.",
    }
)


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


def bounded(warnings: Iterable[EmailWarning]) -> tuple[EmailWarning, ...]:
    """The first WARNINGS_PER_CODE_MAX of each code."""
    seen: Counter[str] = Counter()
    kept = []
    for warning in warnings:
        seen[warning.code] += 1
        if seen[warning.code] <= WARNINGS_PER_CODE_MAX:
            kept.append(warning)
    return tuple(kept)


def line_of(text: str, position: int) -> int:
    """The line, counted from 1, in which the character at `position` stands."""
    return text.count("\n", 0, position) + 1

"""Rules of single lines and texts. Pure."""

import re

from outreach.errors import Violation

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_text(
    path: str, text: str, characters_max: int, *, one_line: bool = False
) -> list[Violation]:
    """A text of limited length, without NUL characters; `one_line`: without any control character."""
    violations = []
    if len(text) > characters_max:
        violations.append(
            Violation(
                path,
                "FIELD_TOO_LONG",
                f"At most {characters_max:,} characters; this has {len(text):,}.",
            )
        )
    if one_line and _CONTROL.search(text):
        violations.append(
            Violation(path, "FIELD_INVALID", "No line breaks and no control characters here.")
        )
    elif "\0" in text:
        violations.append(
            Violation(path, "FIELD_INVALID", "The text has a NUL character; remove it.")
        )
    return violations

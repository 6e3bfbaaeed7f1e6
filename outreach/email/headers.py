"""What may stand in an email's header fields, by SendGrid's rules and against header injection."""

import re

from email_validator import EmailNotValidError, validate_email

from outreach.email.markup import names
from outreach.errors import Violation

DISPLAY_NAME_CHARACTERS_MAX = 200
SUBJECT_CHARACTERS_MAX = 998

# Line breaks in any spelling, NUL and the other control characters.
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,76}")
#: SendGrid refuses a request that sets one of these (lower case).
HEADERS_REFUSED = names(
    "x-sg-id x-sg-eid received dkim-signature content-type content-transfer-encoding to from "
    "subject reply-to cc bcc"
)


def check_header_value(field: str, value: str) -> list[Violation]:
    """A value of any header field: one line, no control characters."""
    if _CONTROL.search(value):
        text = "No line breaks and no control characters here."
        return [Violation(field, "FIELD_INVALID", text)]
    if _LONE_SURROGATE.search(value):
        return [Violation(field, "FIELD_INVALID", "This is not valid Unicode text.")]
    return []


def check_header(field: str, name: str, value: str) -> list[Violation]:
    """A header field that we add ourselves: its name too."""
    violations = check_header_value(field, value)
    if _HEADER_NAME.fullmatch(name) is None:
        text = "A header's name has letters, digits and hyphens only."
        violations.append(Violation(field, "FIELD_INVALID", text))
    elif name.lower() in HEADERS_REFUSED:
        text = f"The header {name} is set by the provider."
        violations.append(Violation(field, "FIELD_INVALID", text))
    return violations


def check_subject(field: str, subject: str) -> list[Violation]:
    """The subject's template, placeholders and all."""
    violations = check_header_value(field, subject)
    if len(subject) > SUBJECT_CHARACTERS_MAX:
        violations.append(_too_long(field, SUBJECT_CHARACTERS_MAX, len(subject)))
    if not subject.strip():
        violations.append(Violation(field, "TEMPLATE_EMPTY", "Write a subject."))
    return violations


def check_display_name(field: str, name: str) -> list[Violation]:
    """The name beside an address; an empty one is none."""
    violations = check_header_value(field, name)
    if any(char in name for char in ";,"):
        text = "SendGrid takes no `;` and no `,` in a display name."
        violations.append(Violation(field, "FIELD_INVALID", text))
    if len(name) > DISPLAY_NAME_CHARACTERS_MAX:
        violations.append(_too_long(field, DISPLAY_NAME_CHARACTERS_MAX, len(name)))
    return violations


def check_sender_address(field: str, address: str) -> list[Violation]:
    """A From or Reply-to address: valid, and ASCII only as SendGrid wants it."""
    violations = check_header_value(field, address)
    if violations:
        return violations
    if not address.isascii():
        return [Violation(field, "FIELD_INVALID", "SendGrid takes ASCII addresses only.")]
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        return [Violation(field, "FIELD_INVALID", "This is no email address.")]
    return []


def _too_long(field: str, most: int, length: int) -> Violation:
    text = f"At most {most:,} characters; this has {length:,}."
    return Violation(field, "FIELD_TOO_LONG", text)

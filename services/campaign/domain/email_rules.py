"""The rules of an email campaign's content. Pure.

What it is made of is checked here; whether it makes an email, compiling it tells (`outreach.email`).
"""

from collections.abc import Iterator, Sequence, Set

from outreach.email.block_texts import block_texts
from outreach.email.blocks import Blocks
from outreach.email.headers import (
    SUBJECT_CHARACTERS_MAX,
    check_display_name,
    check_header_value,
    check_sender_address,
)
from outreach.email.limits import PREHEADER_CHARACTERS_MAX
from outreach.email.marks import UNSUBSCRIBE_URL
from outreach.errors import Violation
from outreach.template.placeholders import parse_template
from services.campaign.domain.compilation import Compilation
from services.campaign.domain.content import (
    PROBLEMS_MAX,
    EmailAddress,
    EmailContent,
    Findings,
    Problem,
)

#: RFC 5321.
ADDRESS_CHARACTERS_MAX = 254

# An unfinished draft has these; with any other fault of a template it can never be right.
_UNFINISHED_REASONS = frozenset(
    {
        "FIELD_REQUIRED",
        "TEMPLATE_EMPTY",
        "TEMPLATE_MALFORMED",
        "TEMPLATE_UNKNOWN_PLACEHOLDER",
        "TEMPLATE_UNSUBSCRIBE_URL_MISSING",
    }
)
_SHOWN_CHARACTERS_MAX = 80


def check_email_form(content: EmailContent) -> list[Violation]:
    """What refuses the content whatever it compiles to: header injection, NUL characters, addresses."""
    path = "campaign.email"
    violations = _check_line(f"{path}.subject", content.subject, SUBJECT_CHARACTERS_MAX)
    violations += _check_line(f"{path}.preheader", content.preheader, PREHEADER_CHARACTERS_MAX)
    violations += [
        Violation(
            f"campaign.{field}", "TEMPLATE_MALFORMED", "The text has a NUL character; remove it."
        )
        for field, text in _body_texts(content)
        if "\0" in text
    ]
    for name, address in (("from", content.from_), ("reply_to", content.reply_to)):
        if address is not None:
            violations += _check_address(f"{path}.{name}", address)
    return violations


def check_compilation(
    content: EmailContent,
    compilation: Compilation,
    variable_names: Sequence[str] | None,
    findings: Findings,
) -> None:
    """What compiling found, and placeholders that no column provides; `variable_names` None: no
    contacts yet, so that none can be unknown.
    """
    for fault in compilation.faults[:PROBLEMS_MAX]:
        if fault.reason in _UNFINISHED_REASONS:
            findings.problems.append(Problem(fault.field, fault.reason, fault.text))
        else:
            field = f"campaign.{fault.field}"
            findings.violations.append(Violation(field, fault.reason, fault.text))
    if compilation.report is not None and variable_names is not None:
        unknown = {*compilation.report.names} - {*variable_names, UNSUBSCRIBE_URL}
        findings.problems += _unknown_placeholders(content, unknown)[:PROBLEMS_MAX]
    if content.from_ is None:
        findings.problems.append(Problem("email.from", "FIELD_REQUIRED", "Choose a sender."))


def _unknown_placeholders(content: EmailContent, unknown: Set[str]) -> list[Problem]:
    """Each once, by the field in which it stands first."""
    if not unknown:
        return []
    fields: dict[str, str] = {}
    for field, text in _texts(content):
        for name in parse_template(text).names:
            if name in unknown:
                fields.setdefault(name, field)
    return [
        Problem(
            field,
            "TEMPLATE_UNKNOWN_PLACEHOLDER",
            f"No column provides {{{{{name[:_SHOWN_CHARACTERS_MAX]}}}}}; map one to it, or take it "
            "out.",
        )
        for name, field in fields.items()
    ]


def _texts(content: EmailContent) -> Iterator[tuple[str, str]]:
    yield "email.subject", content.subject
    yield "email.preheader", content.preheader
    yield from _body_texts(content)


def _body_texts(content: EmailContent) -> Iterator[tuple[str, str]]:
    if isinstance(content.body, Blocks):
        yield from block_texts(content.body, content.body_field)
    elif content.body is not None:
        yield content.body_field, content.body.code
    yield "email.text", content.text


def _check_address(path: str, address: EmailAddress) -> list[Violation]:
    field = f"{path}.address"
    if not address.address:
        violations = [Violation(field, "FIELD_REQUIRED", "Give an address.")]
    elif len(address.address) > ADDRESS_CHARACTERS_MAX:
        violations = _check_line(field, address.address, ADDRESS_CHARACTERS_MAX)
    else:
        violations = check_sender_address(field, address.address)
    return violations + check_display_name(f"{path}.display_name", address.display_name)


def _check_line(field: str, line: str, characters_max: int) -> list[Violation]:
    violations = check_header_value(field, line)
    if len(line) > characters_max:
        text = f"At most {characters_max:,} characters; this has {len(line):,}."
        violations.append(Violation(field, "FIELD_TOO_LONG", text))
    return violations

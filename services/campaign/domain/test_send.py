"""A test send: whom it goes to, the values it is rendered with, and its mark. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from outreach.email.compiled import CompiledEmail
from outreach.email.headers import SUBJECT_CHARACTERS_MAX
from outreach.errors import Violation
from outreach.template.placeholders import parse_template
from outreach.template.segments import segments
from outreach.template.sms import is_sms_too_long
from services.campaign.contacts.variables import is_variable_name
from services.campaign.domain.content import EmailContent, SmsContent

#: Product rules: "Limits".
RECIPIENTS_MAX = 10
#: Before the text of an SMS, and before the subject of an email.
TEST_MARK = "[Test] "
#: A request that means another campaign may have any number; the first say enough.
UNKNOWN_VALUES_TOLD_MAX = 20

Values = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class MarkedSms:
    """An SMS of a test; `segments` is the size of what each recipient gets."""

    content: SmsContent
    segments: int


@dataclass(frozen=True, slots=True)
class MarkedEmail:
    """An email of a test."""

    content: EmailContent
    compiled: CompiledEmail


def check_recipients(
    given: Sequence[str],
    destination: Callable[[str], str | None],
    identity: Callable[[str], bytes],
    invalid_text: str,
) -> tuple[list[str], list[Violation]]:
    """The recipients as they are sent to, and every one that can't be one.

    `destination` is the channel's check, `identity` what two spellings of a recipient have in
    common. No violation shows a recipient.
    """
    if not 1 <= len(given) <= RECIPIENTS_MAX:
        reason = "FIELD_OUT_OF_RANGE" if given else "FIELD_REQUIRED"
        return [], [Violation("recipients", reason, f"Give 1 to {RECIPIENTS_MAX} recipients.")]
    recipients: list[str] = []
    violations: list[Violation] = []
    seen: set[bytes] = set()
    for index, text in enumerate(given):
        field = f"recipients[{index}]"
        recipient = destination(text)
        if recipient is None:
            violations.append(Violation(field, "FIELD_INVALID", invalid_text))
            continue
        if identity(recipient) in seen:
            fault = "This recipient is given twice; give each once."
            violations.append(Violation(field, "FIELD_INVALID", fault))
        seen.add(identity(recipient))
        recipients.append(recipient)
    return recipients, violations


def check_values(
    values: Mapping[str, str], names: Sequence[str], bytes_max: int
) -> list[Violation]:
    """What is wrong with the values, one of a contact's fields each. `names`: the variables that
    there are.
    """
    violations = []
    unknown = sorted(values.keys() - set(names))
    for name in unknown[:UNKNOWN_VALUES_TOLD_MAX]:
        # What is no name may be anything, also somebody's data.
        field = f"values.{name}" if is_variable_name(name) else "values"
        fault = "The campaign has no variable of this name."
        violations.append(Violation(field, "FIELD_UNKNOWN", fault))
    for name in names:
        value = values.get(name, "")
        if len(value.encode()) > bytes_max:
            fault = f"At most {bytes_max:,} bytes."
            violations.append(Violation(f"values.{name}", "FIELD_TOO_LONG", fault))
        if "\0" in value:
            fault = "The value has a NUL character; remove it."
            violations.append(Violation(f"values.{name}", "FIELD_INVALID", fault))
    return violations


def all_names(column_names: Sequence[str], template_names: Sequence[str]) -> tuple[str, ...]:
    """The variables of a test: the columns', and those that only the template names (all of them
    while there are no contacts).
    """
    return tuple(dict.fromkeys((*column_names, *template_names)))


def marked_sms(content: SmsContent, names: Sequence[str], values: Values) -> MarkedSms:
    """The content with its mark, unless the text would be too long for one message by it."""
    body = TEST_MARK + content.body
    text = _rendered(body, names, values)
    if is_sms_too_long(text):
        body = content.body
        text = _rendered(body, names, values)
    return MarkedSms(replace(content, body=body), segments(text).segments)


def marked_email(
    content: EmailContent, compiled: CompiledEmail, names: Sequence[str], values: Values
) -> MarkedEmail:
    """The content and what was compiled of it with the mark in the subject, unless that would be
    too long by it.
    """
    subject = TEST_MARK + compiled.subject
    # Of the subject alone: the rest may be large.
    alone = replace(compiled, subject=subject, html="", text="", preheader="")
    rendered = alone.bind(names).render(values, unsubscribe_url="")
    if len(rendered.subject) > SUBJECT_CHARACTERS_MAX:
        return MarkedEmail(content, compiled)
    return MarkedEmail(
        replace(content, subject=TEST_MARK + content.subject), replace(compiled, subject=subject)
    )


def _rendered(body: str, names: Sequence[str], values: Values) -> str:
    return parse_template(body).bind(names).render(values)

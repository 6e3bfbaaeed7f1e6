"""The rules of an SMS campaign's text."""

from collections.abc import Sequence

from outreach.errors import Violation
from outreach.template.placeholders import (
    MalformedTemplate,
    Template,
    parse_template,
    validate_placeholders,
)

#: After rendering; Twilio refuses longer ones (21617).
SMS_CHARACTERS_MAX = 1_600
#: Before rendering. Placeholders and fallbacks may make a template longer than what it renders to,
#: not without end.
SMS_TEMPLATE_CHARACTERS_MAX = 16_000
SMS_BODY_FIELD = "sms.body"


def is_sms_too_long(body: str) -> bool:
    """Whether a rendered text is over the limit for one message, counted in Unicode characters."""
    return len(body) > SMS_CHARACTERS_MAX


def check_sms_template(
    body: str,
    available_names: Sequence[str] | None = None,
    *,
    field: str = SMS_BODY_FIELD,
) -> tuple[Template | None, list[Violation]]:
    """Parse and check an SMS template.

    `available_names` are the variables of the campaign's columns; None: no contacts yet, names are
    not checked. Returns the template (None when it can't be parsed) and every broken rule; the
    template is valid when there is none.
    """
    if not body.strip():
        return None, [Violation(field, "TEMPLATE_EMPTY", "The text is empty; write one.")]
    if len(body) > SMS_TEMPLATE_CHARACTERS_MAX:
        return None, [_too_long(field, f"The template has {len(body):,} characters")]
    if "\0" in body:
        return None, [
            Violation(field, "TEMPLATE_MALFORMED", "The text has a NUL character; remove it.")
        ]
    try:
        template = parse_template(body)
    except MalformedTemplate as error:
        return None, [
            Violation(
                field,
                "TEMPLATE_MALFORMED",
                f"{place.text} (at character {place.position + 1}).",
            )
            for place in error.places
        ]
    violations = []
    if template.rendered_characters_min > SMS_CHARACTERS_MAX:
        violations.append(
            _too_long(field, f"The text is at least {template.rendered_characters_min:,} long")
        )
    if available_names is not None:
        violations += [
            Violation(
                field,
                "TEMPLATE_UNKNOWN_PLACEHOLDER",
                f"No column provides {{{{{name}}}}}; map one to it, or take the placeholder out.",
            )
            for name in validate_placeholders(template, available_names)
        ]
    return template, violations


def _too_long(field: str, found: str) -> Violation:
    rule = f"an SMS has at most {SMS_CHARACTERS_MAX:,} characters; shorten it."
    return Violation(field, "TEMPLATE_TOO_LONG", f"{found}; {rule}")

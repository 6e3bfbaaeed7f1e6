"""Render one recipient's email, with what its author should look at."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from outreach.email.compiled import CompiledEmail, RenderedEmail
from outreach.email.findings import EmailWarning
from outreach.errors import OutreachError
from services.campaign.domain.content import EmailContent

#: A name that no domain name ever is (RFC 2606): the real link belongs to a real recipient.
PREVIEW_UNSUBSCRIBE_URL = "https://outreach.invalid/unsubscribe/preview"
#: What of an answer is left for the email; values may make it much larger than its template.
PREVIEW_BYTES_MAX = 3_500_000


@dataclass(frozen=True, slots=True)
class EmailPreview:
    """A rendered email, the variables that were missing, and warnings of template and values."""

    email: RenderedEmail
    missing_variables: tuple[str, ...]
    warnings: tuple[EmailWarning, ...]


def preview_email(
    content: EmailContent, compiled: bytes, values: Mapping[str, str | None]
) -> EmailPreview:
    """Up to a second of work. ACTION_NOT_ALLOWED when the values make it larger than an answer."""
    template = CompiledEmail.from_dict(orjson.loads(compiled))
    # Bound to its own names, so that a placeholder that no column provides is shown as missing.
    bound = template.bind(template.names)
    ordered = [values.get(name) for name in template.names]
    email = bound.render(ordered, PREVIEW_UNSUBSCRIBE_URL)
    missing = bound.missing(ordered)
    parts = (email.html, email.text, email.subject, email.preheader, *missing)
    size = sum(len(part.encode()) for part in parts)
    if size > PREVIEW_BYTES_MAX:
        raise OutreachError(
            "ACTION_NOT_ALLOWED",
            f"With these values the email has {size:,} bytes; a preview shows {PREVIEW_BYTES_MAX:,}.",
            metadata={"action": "PREVIEW", "why": "TOO_LARGE"},
        )
    field = content.body_field
    # Of its size the email itself tells, with the values in it.
    warnings = [warning for warning in template.warnings if warning.code != "CLIPPED_BY_GMAIL"]
    if email.is_clipped:
        text = f"The HTML has {email.html_bytes:,} bytes with these values; Gmail cuts it."
        warnings.append(EmailWarning(field, "CLIPPED_BY_GMAIL", text))
    for name in bound.not_urls(ordered):
        text = f"The value of {{{{{name[:80]}}}}} is no URL; the link leads nowhere."
        warnings.append(EmailWarning(field, "VALUE_NOT_A_URL", text))
    return EmailPreview(email, missing, tuple(warnings))

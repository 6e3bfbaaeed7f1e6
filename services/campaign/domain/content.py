"""What a campaign sends, and the rules of it. Pure.

Two kinds of fault: a violation refuses the request (it can never be right), a problem is kept with
the campaign and keeps it from being READY (a draft that is not finished, or whose contacts are still
missing).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from outreach.errors import Violation
from outreach.template.sms import check_sms_template
from outreach.vocabulary import Channel, MissingVariablePolicy

NAME_CHARACTERS_MAX = 200
DESCRIPTION_CHARACTERS_MAX = 2_000
VALIDITY_SECONDS_MIN = 1
#: Twilio's own limit.
VALIDITY_SECONDS_MAX = 36_000
SUBJECT_CHARACTERS_MAX = 998
PREHEADER_CHARACTERS_MAX = 500
ADDRESS_CHARACTERS_MAX = 254
DISPLAY_NAME_CHARACTERS_MAX = 200
EMAIL_BODY_CHARACTERS_MAX = 500_000

_MESSAGING_SERVICE_SID = re.compile(r"MG[0-9a-fA-F]{32}")
# E.164, a short code, or an alphanumeric sender id (up to 11 characters, at least one letter).
_FROM = re.compile(r"\+[1-9][0-9]{1,14}|[0-9]{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 &+_-]{1,11}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# These can't be cured by contacts that are still to come.
_REFUSED_REASONS = frozenset({"TEMPLATE_TOO_LONG"})
#: A template has thousands of faults when it is not meant as one; the first say enough.
PROBLEMS_MAX = 20


@dataclass(frozen=True, slots=True)
class SmsSender:
    """Who an SMS is from: a Messaging Service, or a number or sender id; both None: not chosen."""

    messaging_service_sid: str | None = None
    from_: str | None = None


@dataclass(frozen=True, slots=True)
class SmsContent:
    """An SMS campaign's template and sender settings."""

    body: str = ""
    sender: SmsSender | None = None
    validity_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address with the name shown beside it."""

    address: str = ""
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class EmailContent:
    """An email campaign's template and sender settings."""

    subject: str = ""
    from_: EmailAddress | None = None
    reply_to: EmailAddress | None = None
    preheader: str = ""
    html: str = ""
    text: str = ""


Content = SmsContent | EmailContent


@dataclass(frozen=True, slots=True)
class Draft:
    """What the caller decides about a campaign."""

    name: str
    description: str
    channel: Channel
    content: Content
    missing_variable_policy: MissingVariablePolicy


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a template from being valid. `field` as in `sms.body`."""

    field: str
    reason: str
    description: str


@dataclass(slots=True)
class Findings:
    """All that is wrong with a draft."""

    violations: list[Violation] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def check_draft(draft: Draft, variable_names: Sequence[str] | None) -> Findings:
    """Everything that breaks a rule, with paths below `campaign`.

    `variable_names` are those of the imported columns; None: no contacts yet, so that no
    placeholder can be unknown.
    """
    findings = Findings()
    _check_name(draft, findings)
    if isinstance(draft.content, SmsContent):
        _check_sms(draft.content, variable_names, findings)
    else:
        _check_email(draft.content, findings)
    return findings


def template_problems(content: Content, variable_names: Sequence[str] | None) -> list[Problem]:
    """Why the template is not valid, once the variables are known; empty: it is."""
    findings = Findings()
    if isinstance(content, SmsContent):
        _check_sms_body(content.body, variable_names, findings)
    else:
        _check_email(content, findings)
    return findings.problems


def _check_name(draft: Draft, findings: Findings) -> None:
    if not draft.name:
        findings.violations.append(
            Violation("campaign.name", "FIELD_REQUIRED", "Give the campaign a name.")
        )
    _check_text("campaign.name", draft.name, NAME_CHARACTERS_MAX, findings, one_line=True)
    _check_text("campaign.description", draft.description, DESCRIPTION_CHARACTERS_MAX, findings)


def _check_sms(
    content: SmsContent, variable_names: Sequence[str] | None, findings: Findings
) -> None:
    _check_sms_body(content.body, variable_names, findings)
    if content.sender is not None:
        _check_sms_sender(content.sender, findings)
    seconds = content.validity_seconds
    if seconds is None:
        return
    path = "campaign.sms.validity_period"
    if not VALIDITY_SECONDS_MIN <= seconds <= VALIDITY_SECONDS_MAX:
        findings.violations.append(
            Violation(
                path,
                "FIELD_OUT_OF_RANGE",
                f"Give {VALIDITY_SECONDS_MIN} to {VALIDITY_SECONDS_MAX:,} seconds.",
            )
        )
    elif seconds != int(seconds):
        findings.violations.append(
            Violation(path, "FIELD_INVALID", "Twilio takes whole seconds only.")
        )


def _check_sms_body(body: str, variable_names: Sequence[str] | None, findings: Findings) -> None:
    _, found = check_sms_template(body, variable_names)
    for violation in found[:PROBLEMS_MAX]:
        if violation.reason in _REFUSED_REASONS or "\0" in body:
            findings.violations.append(
                Violation(f"campaign.{violation.field}", violation.reason, violation.text)
            )
        else:
            findings.problems.append(Problem(violation.field, violation.reason, violation.text))


def _check_sms_sender(sender: SmsSender, findings: Findings) -> None:
    path = "campaign.sms.sender"
    if sender.messaging_service_sid is not None:
        if not _MESSAGING_SERVICE_SID.fullmatch(sender.messaging_service_sid):
            findings.violations.append(
                Violation(
                    f"{path}.messaging_service_sid",
                    "FIELD_INVALID",
                    "A Messaging Service is `MG` and 32 hexadecimal digits.",
                )
            )
    elif sender.from_ is None:
        findings.violations.append(
            Violation(path, "FIELD_REQUIRED", "Choose a sender, or leave the whole field out.")
        )
    elif not _FROM.fullmatch(sender.from_):
        findings.violations.append(
            Violation(
                f"{path}.from",
                "FIELD_INVALID",
                "Give a number in E.164 (`+`, country code, number), a short code, or a sender id "
                "of up to 11 letters and digits.",
            )
        )


def _check_email(content: EmailContent, findings: Findings) -> None:
    """Forms and sizes only; what makes an email template valid comes with the email channel."""
    path = "campaign.email"
    _check_text(f"{path}.subject", content.subject, SUBJECT_CHARACTERS_MAX, findings, one_line=True)
    _check_text(
        f"{path}.preheader", content.preheader, PREHEADER_CHARACTERS_MAX, findings, one_line=True
    )
    _check_text(f"{path}.html", content.html, EMAIL_BODY_CHARACTERS_MAX, findings)
    _check_text(f"{path}.text", content.text, EMAIL_BODY_CHARACTERS_MAX, findings)
    for name, address in (("from", content.from_), ("reply_to", content.reply_to)):
        if address is not None:
            _check_address(f"{path}.{name}", address, findings)
    for name, text in (("subject", content.subject), ("html", content.html)):
        if not text.strip():
            findings.problems.append(Problem(f"email.{name}", "TEMPLATE_EMPTY", "Write one."))
    if content.from_ is None:
        findings.problems.append(Problem("email.from", "FIELD_REQUIRED", "Choose a sender."))


def _check_address(path: str, address: EmailAddress, findings: Findings) -> None:
    if not address.address:
        findings.violations.append(
            Violation(f"{path}.address", "FIELD_REQUIRED", "Give an address.")
        )
    elif "@" not in address.address[1:-1]:
        findings.violations.append(
            Violation(f"{path}.address", "FIELD_INVALID", "This is no email address.")
        )
    _check_text(f"{path}.address", address.address, ADDRESS_CHARACTERS_MAX, findings, one_line=True)
    _check_text(
        f"{path}.display_name",
        address.display_name,
        DISPLAY_NAME_CHARACTERS_MAX,
        findings,
        one_line=True,
    )


def _check_text(
    path: str, text: str, characters_max: int, findings: Findings, *, one_line: bool = False
) -> None:
    if len(text) > characters_max:
        findings.violations.append(
            Violation(
                path,
                "FIELD_TOO_LONG",
                f"At most {characters_max:,} characters; this has {len(text):,}.",
            )
        )
    if one_line and _CONTROL.search(text):
        findings.violations.append(
            Violation(path, "FIELD_INVALID", "No line breaks and no control characters here.")
        )
    elif "\0" in text:
        findings.violations.append(
            Violation(path, "FIELD_INVALID", "The text has a NUL character; remove it.")
        )

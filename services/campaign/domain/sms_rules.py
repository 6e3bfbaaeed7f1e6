"""The rules of an SMS campaign's content. Pure."""

import re
from collections.abc import Sequence

from outreach.errors import Violation
from outreach.template.sms import check_sms_template
from services.campaign.domain.content import (
    PROBLEMS_MAX,
    Findings,
    Problem,
    SmsContent,
    SmsSender,
)

VALIDITY_SECONDS_MIN = 1
#: Twilio's own limit.
VALIDITY_SECONDS_MAX = 36_000

_MESSAGING_SERVICE_SID = re.compile(r"MG[0-9a-fA-F]{32}")
# E.164, a short code, or an alphanumeric sender id (up to 11 characters, at least one letter).
_FROM = re.compile(r"\+[1-9][0-9]{1,14}|[0-9]{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 &+_-]{1,11}")
# These can't be cured by contacts that are still to come.
_REFUSED_REASONS = frozenset({"TEMPLATE_TOO_LONG"})


def check_sms(
    content: SmsContent, variable_names: Sequence[str] | None, findings: Findings
) -> None:
    """An SMS campaign's content, below `campaign.sms`."""
    check_sms_body(content.body, variable_names, findings)
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


def check_sms_body(body: str, variable_names: Sequence[str] | None, findings: Findings) -> None:
    """The text alone; `variable_names` None: no contacts yet."""
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

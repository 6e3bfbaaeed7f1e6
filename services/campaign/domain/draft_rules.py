"""The rules of what a caller decides about a campaign. Pure."""

from collections.abc import Sequence

from outreach.errors import Violation
from services.campaign.domain.compilation import Compilation, TemplateReport
from services.campaign.domain.content import Content, Draft, Findings, Problem, SmsContent
from services.campaign.domain.email_rules import check_compilation, check_email_form
from services.campaign.domain.sms_rules import check_sms, check_sms_body
from services.campaign.domain.text_rules import check_text

NAME_CHARACTERS_MAX = 200
DESCRIPTION_CHARACTERS_MAX = 2_000


def check_form(draft: Draft) -> list[Violation]:
    """What refuses a draft before its email is compiled, with paths below `campaign`."""
    return check_draft(draft, None, None).violations


def check_draft(
    draft: Draft, variable_names: Sequence[str] | None, compilation: Compilation | None
) -> Findings:
    """Everything that breaks a rule, with paths below `campaign`.

    `variable_names` are those of the imported columns; None: no contacts yet, so that no
    placeholder can be unknown. `compilation` is that of an email; None: not compiled.
    """
    findings = Findings()
    _check_names(draft, findings)
    if isinstance(draft.content, SmsContent):
        check_sms(draft.content, variable_names, findings)
    else:
        findings.violations += check_email_form(draft.content)
        if compilation is not None:
            check_compilation(draft.content, compilation, variable_names, findings)
    return findings


def problems_with_contacts(
    content: Content,
    problems: Sequence[Problem],
    report: TemplateReport | None,
    variable_names: Sequence[str],
) -> list[Problem]:
    """Why the template is not valid, once the variables are known; empty: it is.

    `problems` and `report` are those the campaign has: an email is not compiled again.
    """
    findings = Findings()
    if isinstance(content, SmsContent):
        check_sms_body(content.body, variable_names, findings)
    elif report is None:
        findings.problems += problems
    else:
        check_compilation(content, Compilation(report), variable_names, findings)
    return findings.problems


def _check_names(draft: Draft, findings: Findings) -> None:
    if not draft.name:
        findings.violations.append(
            Violation("campaign.name", "FIELD_REQUIRED", "Give the campaign a name.")
        )
    findings.violations += check_text(
        "campaign.name", draft.name, NAME_CHARACTERS_MAX, one_line=True
    )
    findings.violations += check_text(
        "campaign.description", draft.description, DESCRIPTION_CHARACTERS_MAX
    )

"""Change a campaign that has not been run."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from outreach.errors import OutreachError, Violation
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignAction
from services.campaign.domain.compilation import Compilation
from services.campaign.domain.content import Draft, EmailContent
from services.campaign.domain.draft_rules import check_draft, check_form, problems_with_contacts
from services.campaign.domain.edit import Proposed, check_paths, edited
from services.campaign.domain.lifecycle import campaign_status
from services.campaign.domain.senders import unverified_senders
from services.campaign.store import Connection, Pool
from services.campaign.store.campaigns import CampaignRecord, log_change
from services.campaign.store.campaigns import update_campaign as store_campaign
from services.campaign.store.organisations import channel_terms
from services.campaign.usecases.compile_template import TemplateChangedError, TemplateCompiler
from services.campaign.usecases.guards import require_action, require_campaign, require_etag


@dataclass(frozen=True, slots=True)
class UpdateCommand:
    """What to change: `paths` of the mask, and the values that they name."""

    campaign_id: UUID
    proposed: Proposed
    paths: Sequence[str]
    etag: str


@dataclass(frozen=True, slots=True)
class CompiledEdit:
    """The content that an edit makes of the campaign as it was read, with its compilation."""

    content: EmailContent
    compilation: Compilation


async def compile_edit(
    pool: Pool, caller: Caller, command: UpdateCommand, compiler: TemplateCompiler
) -> CompiledEdit | None:
    """Before `update_campaign`, and not in its transaction: compiling takes long.

    None: there is nothing to compile. An edit that is refused is not compiled either: the
    transaction says why, or gives the answer that was kept for a repeated request.
    """
    try:
        _require_paths(command)
        async with pool.acquire() as connection:
            campaign = await require_campaign(
                connection, caller.organisation_id, command.campaign_id
            )
        draft = _edited(campaign, command)
    except OutreachError:
        return None
    content = draft.content
    if not isinstance(content, EmailContent) or not _to_compile(campaign, content):
        return None
    if check_form(draft):
        return None
    return CompiledEdit(content, await compiler(content))


async def update_campaign(
    connection: Connection, caller: Caller, command: UpdateCommand, prepared: CompiledEdit | None
) -> CampaignRecord:
    """The campaign as changed; CREATED becomes READY, or the other way, with the template.

    `prepared` is from `compile_edit`; raises TemplateChangedError when the campaign is not the one
    that it was made for any more: prepare again. CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED,
    ETAG_MISMATCH, INVALID_REQUEST.
    """
    _require_paths(command)
    campaign = await require_campaign(
        connection, caller.organisation_id, command.campaign_id, locked=True
    )
    draft = _edited(campaign, command)
    form = check_form(draft)
    if form:
        raise OutreachError.invalid(*form)
    compilation = _compilation(campaign, draft, prepared)
    report = campaign.report if compilation is None else compilation.report
    findings = check_draft(draft, campaign.known_variable_names, compilation or Compilation(report))
    violations = findings.violations + await _unverified(connection, campaign, draft)
    if violations:
        raise OutreachError.invalid(*violations)
    status = campaign_status(
        campaign.counts,
        run=campaign.run,
        template_valid=not findings.problems,
        critical_failure=False,
    )
    await store_campaign(connection, campaign, draft, compilation, findings.problems, status)
    if status is not campaign.status:
        await log_change(connection, campaign.id)
    return await require_campaign(connection, caller.organisation_id, campaign.id)


def _require_paths(command: UpdateCommand) -> None:
    wrong_paths = check_paths(command.paths)
    if wrong_paths:
        raise OutreachError.invalid(*wrong_paths)


def _edited(campaign: CampaignRecord, command: UpdateCommand) -> Draft:
    """What the command makes of the campaign; raises OutreachError when it may not."""
    require_action(campaign, CampaignAction.UPDATE)
    require_etag(campaign, command.etag)
    draft, violations = edited(campaign.draft, command.proposed, command.paths)
    if violations:
        raise OutreachError.invalid(*violations, *check_form(draft))
    return draft


def _to_compile(campaign: CampaignRecord, content: EmailContent) -> bool:
    """Whether the campaign's compiled template, if it has one, is not that of this content."""
    before = campaign.content
    return campaign.report is None or not (
        isinstance(before, EmailContent) and before.template == content.template
    )


def _compilation(
    campaign: CampaignRecord, draft: Draft, prepared: CompiledEdit | None
) -> Compilation | None:
    """None: nothing is compiled anew."""
    content = draft.content
    if not isinstance(content, EmailContent) or not _to_compile(campaign, content):
        return None
    if prepared is None or prepared.content.template != content.template:
        raise TemplateChangedError
    return prepared.compilation


async def _unverified(
    connection: Connection, campaign: CampaignRecord, draft: Draft
) -> list[Violation]:
    """Of the senders that the edit brings; a run checks all of them again."""
    before, after = campaign.content, draft.content
    if not (isinstance(before, EmailContent) and isinstance(after, EmailContent)):
        return []
    terms = await channel_terms(connection, campaign.organisation_id, campaign.channel)
    return [] if terms is None else unverified_senders(after, terms.senders, than=before)


async def settle_template(
    connection: Connection, organisation_id: UUID, campaign_id: UUID
) -> CampaignRecord:
    """Check the template against the columns that were just imported, in the import's transaction.

    To be called after `campaign.total`, `waiting`, `import_time` and `campaign_content.columns` are
    set: sets problems, content hash, status (CREATED or READY) and version, and logs the change.
    An email is not compiled again: its report names the variables.
    """
    campaign = await require_campaign(connection, organisation_id, campaign_id, locked=True)
    problems = problems_with_contacts(
        campaign.content, campaign.problems, campaign.report, campaign.variable_names
    )
    status = campaign_status(
        campaign.counts, run=campaign.run, template_valid=not problems, critical_failure=False
    )
    await store_campaign(connection, campaign, campaign.draft, None, problems, status)
    await log_change(connection, campaign_id)
    return await require_campaign(connection, organisation_id, campaign_id)

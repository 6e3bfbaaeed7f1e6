"""Change a campaign that has not been run."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from outreach.errors import OutreachError
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignAction
from services.campaign.domain.content import check_draft, template_problems
from services.campaign.domain.edit import Proposed, check_paths, edited
from services.campaign.domain.lifecycle import campaign_status
from services.campaign.store import Connection
from services.campaign.store.campaigns import CampaignRecord, log_change
from services.campaign.store.campaigns import update_campaign as store_campaign
from services.campaign.usecases.guards import require_action, require_campaign, require_etag


@dataclass(frozen=True, slots=True)
class UpdateCommand:
    """What to change: `paths` of the mask, and the values that they name."""

    campaign_id: UUID
    proposed: Proposed
    paths: Sequence[str]
    etag: str


async def update_campaign(
    connection: Connection, caller: Caller, command: UpdateCommand
) -> CampaignRecord:
    """The campaign as changed; CREATED becomes READY, or the other way, with the template.

    CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED, ETAG_MISMATCH, INVALID_REQUEST.
    """
    wrong_paths = check_paths(command.paths)
    if wrong_paths:
        raise OutreachError.invalid(*wrong_paths)
    campaign = await require_campaign(
        connection, caller.organisation_id, command.campaign_id, locked=True
    )
    require_action(campaign, CampaignAction.UPDATE)
    require_etag(campaign, command.etag)
    draft, violations = edited(campaign.draft, command.proposed, command.paths)
    findings = check_draft(draft, campaign.known_variable_names)
    if violations or findings.violations:
        raise OutreachError.invalid(*violations, *findings.violations)
    status = campaign_status(
        campaign.counts,
        run=campaign.run,
        template_valid=not findings.problems,
        critical_failure=False,
    )
    await store_campaign(connection, campaign, draft, findings.problems, status)
    if status is not campaign.status:
        await log_change(connection, campaign.id)
    return await require_campaign(connection, caller.organisation_id, campaign.id)


async def settle_template(
    connection: Connection, organisation_id: UUID, campaign_id: UUID
) -> CampaignRecord:
    """Check the template against the columns that were just imported, in the import's transaction.

    To be called after `campaign.total`, `waiting`, `import_time` and `campaign_content.columns` are
    set: sets problems, content hash, status (CREATED or READY) and version, and logs the change.
    """
    campaign = await require_campaign(connection, organisation_id, campaign_id, locked=True)
    problems = template_problems(campaign.content, campaign.known_variable_names)
    status = campaign_status(
        campaign.counts, run=campaign.run, template_valid=not problems, critical_failure=False
    )
    await store_campaign(connection, campaign, campaign.draft, problems, status)
    await log_change(connection, campaign_id)
    return await require_campaign(connection, organisation_id, campaign_id)

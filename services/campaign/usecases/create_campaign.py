"""Create a campaign."""

from uuid import UUID

from uuid_utils.compat import uuid7

from outreach.errors import OutreachError
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignStatus
from services.campaign.domain.compilation import Compilation
from services.campaign.domain.content import Draft, EmailContent
from services.campaign.domain.draft_rules import check_draft
from services.campaign.domain.senders import unverified_senders
from services.campaign.store import Connection
from services.campaign.store.campaigns import CampaignRecord, insert_campaign
from services.campaign.usecases.guards import require_campaign, require_channel


async def create_campaign(
    connection: Connection, caller: Caller, draft: Draft, compilation: Compilation | None
) -> CampaignRecord:
    """A new campaign, CREATED. `compilation` is that of an email's template.

    INVALID_REQUEST with every field that breaks a rule; CHANNEL_NOT_CONFIGURED without credentials.
    """
    findings = check_draft(draft, None, compilation)
    if findings.violations:
        raise OutreachError.invalid(*findings.violations)
    terms = await require_channel(connection, caller.organisation_id, draft.channel)
    if isinstance(draft.content, EmailContent):
        unverified = unverified_senders(draft.content, terms.senders)
        if unverified:
            raise OutreachError.invalid(*unverified)
    campaign_id: UUID = uuid7()
    await insert_campaign(
        connection,
        campaign_id=campaign_id,
        organisation_id=caller.organisation_id,
        draft=draft,
        compilation=compilation,
        problems=findings.problems,
        status=CampaignStatus.CREATED,
    )
    return await require_campaign(connection, caller.organisation_id, campaign_id)

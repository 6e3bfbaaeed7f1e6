"""Create a campaign."""

from uuid import UUID

from uuid_utils.compat import uuid7

from outreach.errors import OutreachError
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignStatus
from services.campaign.domain.content import Draft, check_draft
from services.campaign.store import Connection
from services.campaign.store.campaigns import CampaignRecord, insert_campaign
from services.campaign.usecases.guards import require_campaign, require_channel


async def create_campaign(connection: Connection, caller: Caller, draft: Draft) -> CampaignRecord:
    """A new campaign, CREATED.

    INVALID_REQUEST with every field that breaks a rule; CHANNEL_NOT_CONFIGURED without credentials.
    """
    findings = check_draft(draft, None)
    if findings.violations:
        raise OutreachError.invalid(*findings.violations)
    await require_channel(connection, caller.organisation_id, draft.channel)
    campaign_id: UUID = uuid7()
    await insert_campaign(
        connection,
        campaign_id=campaign_id,
        organisation_id=caller.organisation_id,
        draft=draft,
        problems=findings.problems,
        status=CampaignStatus.CREATED,
    )
    return await require_campaign(connection, caller.organisation_id, campaign_id)

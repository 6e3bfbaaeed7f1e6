"""The files of a campaign."""

from uuid import UUID

from outreach.rpc.call import Caller
from services.campaign.store import Pool
from services.campaign.store.attachments import Attachment
from services.campaign.store.attachments import list_attachments as stored_attachments
from services.campaign.usecases.guards import require_campaign


async def list_attachments(pool: Pool, caller: Caller, campaign_id: UUID) -> list[Attachment]:
    """In the order in which they were added, whatever the campaign's state. CAMPAIGN_NOT_FOUND."""
    async with pool.acquire() as connection:
        await require_campaign(connection, caller.organisation_id, campaign_id)
        return await stored_attachments(connection, campaign_id)

"""Take a file off a campaign that has not been run."""

from uuid import UUID

from outreach.rpc.call import Caller
from services.campaign.store import Connection
from services.campaign.store.attachments import delete_attachment as delete_stored
from services.campaign.store.campaigns import refresh_content_hash, set_edited
from services.campaign.usecases.guards import (
    attachment_not_found,
    require_attachable,
    require_campaign,
)


async def delete_attachment(
    connection: Connection, caller: Caller, campaign_id: UUID, attachment_id: UUID
) -> None:
    """The campaign has another version and another content hash.

    CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED, ATTACHMENT_NOT_FOUND.
    """
    campaign = await require_campaign(connection, caller.organisation_id, campaign_id, locked=True)
    require_attachable(campaign)
    if not await delete_stored(connection, campaign.id, attachment_id):
        raise attachment_not_found()
    await refresh_content_hash(connection, campaign)
    await set_edited(connection, campaign.id)

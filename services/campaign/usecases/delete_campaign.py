"""Delete a campaign: gone at once for callers; its rows go in the background (deletions)."""

from dataclasses import dataclass
from uuid import UUID

from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignAction
from services.campaign.store import Connection
from services.campaign.store import deletions as store
from services.campaign.usecases.guards import require_action, require_campaign, require_etag


@dataclass(frozen=True, slots=True)
class DeleteCommand:
    """Which campaign; `etag` empty: whatever it is by now."""

    campaign_id: UUID
    etag: str


async def delete_campaign(connection: Connection, caller: Caller, command: DeleteCommand) -> None:
    """With the commit nobody finds the campaign any more, and what is still told of it is dropped.

    CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED, ETAG_MISMATCH.
    """
    # Waits for whoever changes its messages or makes a test send, milliseconds; an import that is
    # under way finds the campaign gone at its end, and is void.
    await store.lock_to_delete(connection, caller.organisation_id, command.campaign_id)
    campaign = await require_campaign(connection, caller.organisation_id, command.campaign_id)
    require_action(campaign, CampaignAction.DELETE)
    require_etag(campaign, command.etag)
    await store.delete_campaign(connection, campaign.id)

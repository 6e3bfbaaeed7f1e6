"""Stop a run: one row is changed; what is queued is cancelled afterwards, in batches (delivery.sweepers)."""

from dataclasses import dataclass
from uuid import UUID

from outreach.crash_points import reached
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignAction
from services.campaign.store import Connection
from services.campaign.store.campaigns import CampaignRecord, log_change
from services.campaign.store.retries import stop_run
from services.campaign.usecases.guards import require_action, require_campaign, require_etag


@dataclass(frozen=True, slots=True)
class StopCommand:
    """Which campaign."""

    campaign_id: UUID
    etag: str


async def stop_campaign(
    connection: Connection, caller: Caller, command: StopCommand
) -> CampaignRecord:
    """The campaign, with its stop time. CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED, ETAG_MISMATCH."""
    campaign = await require_campaign(
        connection, caller.organisation_id, command.campaign_id, locked=True
    )
    require_action(campaign, CampaignAction.STOP)
    require_etag(campaign, command.etag)
    await stop_run(connection, campaign.id)
    await log_change(connection, campaign.id)
    reached("stop-before-commit")
    return await require_campaign(connection, caller.organisation_id, campaign.id)

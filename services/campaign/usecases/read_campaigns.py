"""Get one campaign, list many."""

from dataclasses import dataclass
from uuid import UUID

from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignStatus, Channel
from services.campaign.store import Pool
from services.campaign.store import campaigns as store
from services.campaign.store.campaigns import CampaignRecord
from services.campaign.usecases.guards import require_campaign


@dataclass(frozen=True, slots=True)
class CampaignFilter:
    """What a campaign has to match; None or empty: anything."""

    channel: Channel | None
    statuses: tuple[CampaignStatus, ...]
    name_contains: str


async def get_campaign(pool: Pool, caller: Caller, campaign_id: UUID) -> CampaignRecord:
    """CAMPAIGN_NOT_FOUND."""
    async with pool.acquire() as connection:
        return await require_campaign(connection, caller.organisation_id, campaign_id)


async def list_campaigns(
    pool: Pool,
    caller: Caller,
    where: CampaignFilter,
    *,
    before: UUID | None,
    limit: int,
    bytes_max: int,
) -> tuple[list[CampaignRecord], bool]:
    """Newest first, those older than `before`; and whether some of the first `limit` were left out
    because the others have `bytes_max` already.
    """
    async with pool.acquire() as connection:
        return await store.list_campaigns(
            connection,
            caller.organisation_id,
            channel=where.channel,
            statuses=where.statuses,
            name_contains=where.name_contains,
            before=before,
            limit=limit,
            bytes_max=bytes_max,
        )

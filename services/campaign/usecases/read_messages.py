"""Get one message of a campaign, list many."""

from uuid import UUID

from outreach.errors import OutreachError
from outreach.rpc.call import Caller
from services.campaign.store import Pool
from services.campaign.store import messages as store
from services.campaign.store.campaigns import CampaignRecord
from services.campaign.store.messages import MessageFilter, MessageRecord
from services.campaign.usecases.guards import require_campaign


async def get_message(
    pool: Pool, caller: Caller, campaign_id: UUID, number: int
) -> tuple[MessageRecord, tuple[str, ...]]:
    """The message, and the names of its variables. CAMPAIGN_NOT_FOUND, MESSAGE_NOT_FOUND."""
    async with pool.acquire() as connection:
        campaign = await require_campaign(connection, caller.organisation_id, campaign_id)
        message = await store.get_message(connection, caller.organisation_id, campaign_id, number)
    if message is None:
        raise message_not_found(campaign)
    return message, campaign.variable_names


def message_not_found(campaign: CampaignRecord) -> OutreachError:
    """The campaign has no message of this number."""
    total = campaign.counts.total
    return OutreachError(
        "MESSAGE_NOT_FOUND",
        f"The campaign's messages are numbered 1 to {total}.",
        metadata={"messages": str(total)},
    )


async def list_messages(
    pool: Pool, caller: Caller, campaign_id: UUID, where: MessageFilter, *, after: int, limit: int
) -> tuple[list[MessageRecord], tuple[str, ...]]:
    """By number, those after `after`, and the names of their variables. CAMPAIGN_NOT_FOUND."""
    async with pool.acquire() as connection:
        campaign = await require_campaign(connection, caller.organisation_id, campaign_id)
        messages = await store.list_messages(
            connection,
            caller.organisation_id,
            campaign_id,
            after=after,
            where=where,
            limit=limit,
        )
    return messages, campaign.variable_names

"""Get one message of a campaign, list many."""

from dataclasses import dataclass
from uuid import UUID

from outreach.errors import OutreachError
from outreach.recipients import recipient_hash
from outreach.rpc import filters
from outreach.rpc.call import Caller
from services.campaign.domain.lifecycle import Counts
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
    text = f"The campaign's messages are numbered 1 to {total}."
    return OutreachError(
        "MESSAGE_NOT_FOUND",
        text if total else "The campaign has no messages: contacts have not been imported.",
        metadata={"messages": str(total)},
    )


@dataclass(frozen=True, slots=True)
class MessagesFound:
    """A page; `more_after`: where the next one begins, None on the last."""

    messages: list[MessageRecord]
    variable_names: tuple[str, ...]
    more_after: int | None


async def list_messages(
    pool: Pool,
    caller: Caller,
    campaign_id: UUID,
    asked: filters.MessageFilter,
    *,
    recipient_key: bytes,
    after: int,
    limit: int,
) -> MessagesFound:
    """At most `limit` by number, those after `after`; fewer, even none, where few of many match.
    CAMPAIGN_NOT_FOUND.
    """
    async with pool.acquire() as connection:
        head = await store.get_list_head(connection, caller.organisation_id, campaign_id)
        if head is None:
            raise OutreachError("CAMPAIGN_NOT_FOUND", "There is no campaign with this id.")
        if after >= head.counts.total or not _may_match(asked, head.counts):
            return MessagesFound([], head.variable_names, None)
        hash_ = None
        if asked.recipient:
            hash_ = recipient_hash(recipient_key, head.channel, asked.recipient)
        page = await store.list_messages(
            connection,
            campaign_id,
            after=after,
            total=head.counts.total,
            where=MessageFilter(
                statuses=asked.statuses,
                failure_reasons=asked.failure_reasons,
                recipient_hash=hash_,
                recipient_contains=asked.recipient_contains,
                run=asked.run or None,
            ),
            limit=limit,
        )
    more = page.looked_through if page.looked_through < head.counts.total else None
    return MessagesFound(page.messages, head.variable_names, more)


def _may_match(asked: filters.MessageFilter, counts: Counts) -> bool:
    """Whether any message has one of the statuses: nothing is looked for that is not there."""
    if asked.failure_reasons and not counts.failed:
        return False
    by_status = counts.as_list()
    return not asked.statuses or any(by_status[status - 1] for status in asked.statuses)

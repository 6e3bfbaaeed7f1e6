"""Count what a run would do, contact by contact."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from outreach.rpc.call import Caller
from outreach.template.placeholders import parse_template
from outreach.template.segments import SegmentCount, segments
from services.campaign.domain.content import SmsContent
from services.campaign.domain.estimate import SmsEstimate
from services.campaign.store import Pool
from services.campaign.store.campaigns import CampaignRecord, contacts_after
from services.campaign.store.organisations import ChannelTerms, channel_terms
from services.campaign.usecases.guards import require_campaign, require_template

#: Contacts read and counted at a time: memory stays flat, and no snapshot is held for long.
BATCH_CONTACTS = 2_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do; `sms` is None for an email campaign."""

    to_send: int
    suppressed: int
    sms: SmsEstimate | None
    template_size: SegmentCount | None
    terms: ChannelTerms | None


async def estimate_campaign(pool: Pool, caller: Caller, campaign_id: UUID) -> Estimate:
    """CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED when the template can't be rendered."""
    async with pool.acquire() as connection:
        campaign = await require_campaign(connection, caller.organisation_id, campaign_id)
        terms = await channel_terms(connection, caller.organisation_id, campaign.channel)
    require_template(campaign, "ESTIMATE")
    if not isinstance(campaign.content, SmsContent):
        suppressed = await _suppressed(pool, campaign)
        return Estimate(campaign.counts.total - suppressed, suppressed, None, None, terms)
    counted = await _counted(pool, campaign, campaign.content)
    return Estimate(
        to_send=counted.to_send,
        suppressed=counted.suppressed,
        sms=counted,
        template_size=segments(campaign.content.body),
        terms=terms,
    )


async def _counted(pool: Pool, campaign: CampaignRecord, content: SmsContent) -> SmsEstimate:
    template = parse_template(content.body)
    # Placeholders that no column provides are missing for every contact.
    unknown = [name for name in template.names if name not in campaign.variable_names]
    lacking: list[str | None] = [None] * len(unknown)
    estimate = SmsEstimate(
        template.bind((*campaign.variable_names, *unknown)), campaign.missing_variable_policy
    )

    def count(contacts: list[tuple[int, list[str | None], bool]]) -> None:
        for _, variables, suppressed in contacts:
            estimate.add(variables + lacking, suppressed=suppressed)

    number = 0
    while True:
        async with pool.acquire() as connection:
            contacts = await contacts_after(connection, campaign, number, BATCH_CONTACTS)
        if not contacts:
            return estimate
        # In a thread: other calls and claims go on meanwhile.
        await asyncio.to_thread(count, contacts)
        number = contacts[-1][0]


async def _suppressed(pool: Pool, campaign: CampaignRecord) -> int:
    number = suppressed = 0
    while True:
        async with pool.acquire() as connection:
            contacts = await contacts_after(connection, campaign, number, BATCH_CONTACTS)
        if not contacts:
            return suppressed
        suppressed += sum(is_suppressed for _, _, is_suppressed in contacts)
        number = contacts[-1][0]

"""Count what a run would do, contact by contact."""

import asyncio
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import orjson

from outreach.email.compiled import CompiledEmail
from outreach.rpc.call import Caller
from outreach.template.placeholders import parse_template
from outreach.template.segments import SegmentCount, segments
from services.campaign.domain.compilation import TemplateReport
from services.campaign.domain.content import SmsContent
from services.campaign.domain.estimate import EmailEstimate, SmsEstimate
from services.campaign.store import Pool
from services.campaign.store.campaigns import (
    CampaignRecord,
    attachments_bytes,
    contacts_after,
    get_compiled,
)
from services.campaign.store.organisations import ChannelTerms, channel_terms
from services.campaign.usecases.guards import require_campaign, require_template

#: Contacts read and counted at a time: memory stays flat, and no snapshot is held for long.
BATCH_CONTACTS = 2_000

Counting = TypeVar("Counting", SmsEstimate, EmailEstimate)


@dataclass(frozen=True, slots=True)
class SmsTotals:
    """What a run of an SMS campaign would do."""

    counted: SmsEstimate
    template: SegmentCount
    terms: ChannelTerms | None


@dataclass(frozen=True, slots=True)
class EmailTotals:
    """What a run of an email campaign would do; the template's sizes are in its `report`."""

    counted: EmailEstimate
    report: TemplateReport
    attachments_bytes: int
    terms: ChannelTerms | None


async def estimate_campaign(
    pool: Pool, caller: Caller, campaign_id: UUID
) -> SmsTotals | EmailTotals:
    """CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED when the template can't be rendered."""
    async with (
        pool.acquire() as connection,
        # The template and what it was compiled to, of one moment.
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        campaign = await require_campaign(connection, caller.organisation_id, campaign_id)
        terms = await channel_terms(connection, caller.organisation_id, campaign.channel)
        require_template(campaign, "ESTIMATE")
        compiled = await get_compiled(connection, campaign_id)
        attached_bytes = await attachments_bytes(connection, campaign_id)
    if isinstance(campaign.content, SmsContent):
        sms = await _sms_counted(pool, campaign, campaign.content)
        return SmsTotals(sms, segments(campaign.content.body), terms)
    assert compiled is not None  # as `require_template` saw
    assert campaign.report is not None
    email = await _email_counted(pool, campaign, compiled)
    return EmailTotals(email, campaign.report, attached_bytes, terms)


async def _sms_counted(pool: Pool, campaign: CampaignRecord, content: SmsContent) -> SmsEstimate:
    template = parse_template(content.body)
    columns = _columns(campaign, template.names)
    estimate = SmsEstimate(template.bind(columns), campaign.missing_variable_policy)
    return await _counted(pool, campaign, estimate, columns)


async def _email_counted(pool: Pool, campaign: CampaignRecord, compiled: bytes) -> EmailEstimate:
    template = await asyncio.to_thread(lambda: CompiledEmail.from_dict(orjson.loads(compiled)))
    columns = _columns(campaign, template.names)
    estimate = EmailEstimate(template.bind(columns), campaign.missing_variable_policy)
    return await _counted(pool, campaign, estimate, columns)


def _columns(campaign: CampaignRecord, names: tuple[str, ...]) -> tuple[str, ...]:
    """With placeholders that no column provides: they are missing for every contact."""
    known = campaign.variable_names
    return (*known, *(name for name in names if name not in known))


async def _counted(
    pool: Pool, campaign: CampaignRecord, estimate: Counting, columns: tuple[str, ...]
) -> Counting:
    lacking: list[str | None] = [None] * (len(columns) - len(campaign.variable_names))

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

"""Run a campaign: take the channel, open the run, keep the acceptance; messages are not touched."""

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from outreach.errors import OutreachError
from outreach.rpc.call import Caller
from outreach.template.placeholders import parse_template
from outreach.template.segments import segments
from outreach.vocabulary import CampaignAction
from services.campaign.domain.content import SmsContent
from services.campaign.domain.lifecycle import ACTION_STATUSES
from services.campaign.store import Connection, Pool
from services.campaign.store.campaigns import (
    CampaignRecord,
    begin_run,
    channel_holder,
    get_campaign,
    insert_acceptance,
    log_change,
    sample_variables,
)
from services.campaign.usecases.guards import (
    require_action,
    require_campaign,
    require_channel,
    require_disclaimer,
    require_etag,
    require_senders,
    require_template,
)

#: Contacts whose texts are measured for the mean of segments, which the dispatcher paces by.
SAMPLED_CONTACTS_MAX = 1_000
_CHANNEL_LOCK = "campaign_channel_lock"


class ChannelTakenError(Exception):
    """Another campaign holds the channel; the transaction is over."""


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Which campaign, and what the caller accepts."""

    campaign_id: UUID
    accepted_disclaimer_version: str
    etag: str


async def run_campaign(
    connection: Connection, caller: Caller, command: RunCommand
) -> CampaignRecord:
    """The campaign, IN_PROGRESS.

    CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED, ETAG_MISMATCH, CHANNEL_NOT_CONFIGURED,
    DISCLAIMER_NOT_ACCEPTED, DISCLAIMER_OUTDATED; raises ChannelTakenError when the channel is taken,
    which the caller turns into CHANNEL_BUSY by `channel_busy`.
    """
    campaign = await require_campaign(
        connection, caller.organisation_id, command.campaign_id, locked=True
    )
    require_action(campaign, CampaignAction.RUN)
    require_etag(campaign, command.etag)
    terms = await require_channel(connection, caller.organisation_id, campaign.channel)
    require_template(campaign, CampaignAction.RUN.name)
    action = CampaignAction.RUN
    require_senders(campaign, terms, action.name, ACTION_STATUSES[action])
    require_disclaimer(command.accepted_disclaimer_version)
    await open_run(connection, caller, campaign, command.accepted_disclaimer_version)
    return await require_campaign(connection, caller.organisation_id, campaign.id)


async def open_run(
    connection: Connection, caller: Caller, campaign: CampaignRecord, accepted_version: str
) -> None:
    """Take the channel, open the next run, keep who accepted the disclaimer for it; the campaign's row is locked.

    Raises ChannelTakenError.
    """
    segments_mean = await _segments_mean(connection, campaign)
    try:
        # The only statement that can wait: two runs meet at the unique index.
        run = await begin_run(connection, campaign.id, segments_mean=segments_mean)
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != _CHANNEL_LOCK:
            raise
        raise ChannelTakenError from error
    await insert_acceptance(
        connection,
        campaign_id=campaign.id,
        run=run,
        organisation_id=caller.organisation_id,
        version=accepted_version,
        accepted_by=caller.key_label,
    )
    await log_change(connection, campaign.id)


async def channel_busy(pool: Pool, caller: Caller, campaign_id: UUID) -> OutreachError | None:
    """CHANNEL_BUSY naming the campaign that runs; None: it has ended meanwhile, try again."""
    async with pool.acquire() as connection:
        campaign = await get_campaign(connection, caller.organisation_id, campaign_id)
        if campaign is None:
            return None
        holder = await channel_holder(connection, caller.organisation_id, campaign.channel)
    if holder is None:
        return None
    return OutreachError(
        "CHANNEL_BUSY",
        f"Another campaign is running on {campaign.channel.name}; run this one when it has ended.",
        metadata={"running_campaign_id": str(holder), "channel": campaign.channel.name},
    )


async def _segments_mean(connection: Connection, campaign: CampaignRecord) -> float:
    """Over evenly spread contacts; 1 for an email."""
    if not isinstance(campaign.content, SmsContent):
        return 1.0
    total = campaign.counts.total
    step = -(-total // SAMPLED_CONTACTS_MAX)
    sample = await sample_variables(connection, campaign.id, range(1, total + 1, step))
    template = parse_template(campaign.content.body).bind(campaign.variable_names)
    counts = [segments(template.render(variables)).segments for variables in sample]
    return sum(counts) / len(counts) if counts else 1.0

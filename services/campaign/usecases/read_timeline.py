"""A message's whole history, and what its recipient gets."""

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson

from outreach.email.compiled import CompiledEmail, RenderedEmail
from outreach.rpc.call import Caller
from outreach.template.placeholders import MalformedTemplate, parse_template
from outreach.vocabulary import MessageStatus
from services.campaign.domain.content import SmsContent
from services.campaign.store import Connection, Pool
from services.campaign.store.campaigns import CampaignRecord, get_compiled
from services.campaign.store.messages import MessageRecord
from services.campaign.store.messages import get_message as stored_message
from services.campaign.store.timelines import (
    AttemptRecord,
    ChangeRecord,
    first_run_time,
    kept_attempts,
    status_changes,
)
from services.campaign.usecases.guards import require_campaign
from services.campaign.usecases.preview_email import PREVIEW_UNSUBSCRIBE_URL
from services.campaign.usecases.read_messages import message_not_found

#: A part of an email that is larger than this is left out of the answer.
PART_BYTES_MAX: Final = 1_000_000

#: In these a message's latest attempt was handed over, or may have been.
_HANDED_OVER: Final = frozenset(
    {
        MessageStatus.SENDING,
        MessageStatus.SENT,
        MessageStatus.RETRYING,
        MessageStatus.DELIVERED,
        MessageStatus.ASSUMED_DELIVERED,
        MessageStatus.FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """`sms_text` and `email`: one of them, by the channel; neither when the template can't be rendered."""

    message: MessageRecord
    variable_names: tuple[str, ...]
    attempts: tuple[AttemptRecord, ...]
    changes: tuple[ChangeRecord, ...]
    sms_text: str
    email: RenderedEmail | None


async def read_timeline(pool: Pool, caller: Caller, campaign_id: UUID, number: int) -> Timeline:
    """CAMPAIGN_NOT_FOUND, MESSAGE_NOT_FOUND."""
    async with (
        pool.acquire() as connection,
        # All of one moment: a retry moves what is in one table to another.
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        campaign = await require_campaign(connection, caller.organisation_id, campaign_id)
        message = await stored_message(connection, caller.organisation_id, campaign_id, number)
        if message is None:
            raise message_not_found(campaign)
        kept = await kept_attempts(connection, campaign_id, number)
        changes = await _changes(connection, campaign_id, number)
        compiled = await get_compiled(connection, campaign_id)
    email = None
    if compiled is not None:
        email = await asyncio.to_thread(_rendered_email, campaign, compiled, message)
    return Timeline(
        message=message,
        variable_names=campaign.variable_names,
        attempts=(*kept, *_latest(message, kept)),
        changes=tuple(changes),
        sms_text=_rendered_sms(campaign, message),
        email=email,
    )


async def _changes(connection: Connection, campaign_id: UUID, number: int) -> list[ChangeRecord]:
    started = await first_run_time(connection, campaign_id)
    if started is None:
        return []
    queued = ChangeRecord(started, MessageStatus.QUEUED, None, 0)
    return [queued, *await status_changes(connection, campaign_id, number)]


def _latest(message: MessageRecord, kept: list[AttemptRecord]) -> list[AttemptRecord]:
    """The attempt that the message's own row tells of, unless that certainly never left, or is kept already."""
    handed_over = message.status in _HANDED_OVER or (
        # By the provider; of a recipient that was suppressed with us it said nothing.
        message.status is MessageStatus.OPTED_OUT
        and (message.provider_code is not None or message.provider_message_id is not None)
    )
    if not handed_over or message.attempt in {0, *(attempt.attempt for attempt in kept)}:
        return []
    if message.provider_message_id in {attempt.provider_message_id for attempt in kept} - {None}:
        return []  # an earlier attempt arrived, and the message's row tells of that
    return [
        AttemptRecord(
            attempt=message.attempt,
            run=message.run,
            status=message.status,
            failure_reason=message.failure_reason,
            provider_code=message.provider_code,
            provider_message_id=message.provider_message_id,
            segments=message.segments,
            claim_time=message.claim_time,
            update_time=message.update_time,
        )
    ]


def _rendered_sms(campaign: CampaignRecord, message: MessageRecord) -> str:
    if not isinstance(campaign.content, SmsContent):
        return ""
    values = dict(zip(campaign.variable_names, message.variables, strict=True))
    try:
        template = parse_template(campaign.content.body)
    except MalformedTemplate:
        return ""  # a draft
    # Bound to its own names, so that a placeholder that no column provides is shown as missing.
    bound = template.bind(template.names)
    return bound.render([values.get(name) for name in template.names])


def _rendered_email(
    campaign: CampaignRecord, compiled: bytes, message: MessageRecord
) -> RenderedEmail:
    values = dict(zip(campaign.variable_names, message.variables, strict=True))
    template = CompiledEmail.from_dict(orjson.loads(compiled))
    bound = template.bind(template.names)
    return bound.render([values.get(name) for name in template.names], PREVIEW_UNSUBSCRIBE_URL)

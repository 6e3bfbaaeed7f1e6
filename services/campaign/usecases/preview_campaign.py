"""Show a message as one recipient would get it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from outreach.errors import OutreachError
from outreach.rpc.call import Caller
from outreach.template.placeholders import parse_template
from outreach.template.segments import SegmentCount, segments
from services.campaign.domain.content import EmailContent, SmsContent
from services.campaign.store import Pool
from services.campaign.store.campaigns import get_compiled, get_variables
from services.campaign.usecases.guards import require_campaign, require_template
from services.campaign.usecases.preview_email import EmailPreview, preview_email


@dataclass(frozen=True, slots=True)
class SmsPreview:
    """A rendered text, its size, and the variables that were missing."""

    text: str
    size: SegmentCount
    missing_variables: tuple[str, ...]


async def preview_campaign(
    pool: Pool, caller: Caller, campaign_id: UUID, who: int | Mapping[str, str]
) -> SmsPreview | EmailPreview:
    """For the contact with this message number, or for made-up values.

    CAMPAIGN_NOT_FOUND, MESSAGE_NOT_FOUND, ACTION_NOT_ALLOWED when the template can't be rendered.
    """
    async with (
        pool.acquire() as connection,
        # The template and what it was compiled to, of one moment.
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        campaign = await require_campaign(connection, caller.organisation_id, campaign_id)
        if isinstance(who, int):
            variables = await get_variables(connection, campaign_id, who)
            if variables is None:
                total = campaign.counts.total
                raise OutreachError(
                    "MESSAGE_NOT_FOUND",
                    f"The campaign's messages are numbered 1 to {total}."
                    if total
                    else "The campaign has no contacts yet; import them, or give made-up values.",
                    metadata={"messages": str(campaign.counts.total)},
                )
            values: Mapping[str, str | None] = dict(
                zip(campaign.variable_names, variables, strict=True)
            )
        else:
            values = who
        require_template(campaign, "PREVIEW")
        compiled = await get_compiled(connection, campaign_id)
    if isinstance(campaign.content, EmailContent):
        assert compiled is not None  # as `require_template` saw
        return await asyncio.to_thread(preview_email, campaign.content, compiled, values)
    return _rendered(campaign.content, values)


def _rendered(content: SmsContent, values: Mapping[str, str | None]) -> SmsPreview:
    template = parse_template(content.body)
    # Bound to its own names, so that a placeholder that no column provides is shown as missing.
    bound = template.bind(template.names)
    ordered = [values.get(name) for name in template.names]
    text = bound.render(ordered)
    return SmsPreview(text=text, size=segments(text), missing_variables=bound.missing(ordered))

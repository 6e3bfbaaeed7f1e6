"""Checks that several use cases make."""

from collections.abc import Sequence
from uuid import UUID

from outreach.errors import OutreachError, Violation
from outreach.vocabulary import CampaignAction, CampaignStatus, Channel
from services.campaign.domain.content import EmailContent, Problem
from services.campaign.domain.disclaimer import DISCLAIMER_VERSION
from services.campaign.domain.etag import etag_of
from services.campaign.domain.lifecycle import ACTION_STATUSES, allowed_actions
from services.campaign.domain.senders import unverified_senders
from services.campaign.store import Connection
from services.campaign.store.campaigns import CampaignRecord, get_campaign
from services.campaign.store.organisations import ChannelTerms, channel_terms

# An email that was stored by a version that could not compile it.
_NOT_COMPILED = Problem("email", "TEMPLATE_EMPTY", "Give the email's body once more.")


async def require_campaign(
    connection: Connection, organisation_id: UUID, campaign_id: UUID, *, locked: bool = False
) -> CampaignRecord:
    """The campaign, or CAMPAIGN_NOT_FOUND: also when it is another organisation's."""
    campaign = await get_campaign(connection, organisation_id, campaign_id, locked=locked)
    if campaign is None:
        raise OutreachError("CAMPAIGN_NOT_FOUND", "There is no campaign with this id.")
    return campaign


def require_action(campaign: CampaignRecord, action: CampaignAction) -> None:
    """Refuses what the campaign's state does not allow: ACTION_NOT_ALLOWED, and why."""
    stopped = campaign.stop_time is not None
    if action in allowed_actions(campaign.status, campaign.counts, stopped=stopped):
        return
    why, text = _why_not(campaign, action)
    raise OutreachError(
        "ACTION_NOT_ALLOWED",
        text,
        metadata={
            "action": action.name,
            "status": campaign.status.name,
            "allowed_statuses": ",".join(status.name for status in ACTION_STATUSES[action]),
            "why": why,
        },
        violations=_as_violations(campaign.problems) if why == "TEMPLATE_INVALID" else (),
    )


def require_attachable(campaign: CampaignRecord) -> None:
    """Refuses a campaign whose attachments can't be changed: ACTION_NOT_ALLOWED, and why."""
    require_action(campaign, CampaignAction.UPDATE)
    if campaign.channel is not Channel.EMAIL:
        raise OutreachError(
            "ACTION_NOT_ALLOWED",
            f"Only email campaigns have attachments; this one is {campaign.channel.name}.",
            metadata={
                "action": CampaignAction.UPDATE.name,
                "status": campaign.status.name,
                "why": "CHANNEL",
            },
        )


def attachment_not_found() -> OutreachError:
    """The campaign has no file of this id, or none any more."""
    return OutreachError("ATTACHMENT_NOT_FOUND", "The campaign has no attachment with this id.")


def require_etag(campaign: CampaignRecord, etag: str) -> None:
    """Refuses an etag that is given and not the current one: ETAG_MISMATCH."""
    current = etag_of(campaign.id, campaign.version)
    if etag and etag != current:
        raise OutreachError(
            "ETAG_MISMATCH",
            "The campaign was changed meanwhile; get it and decide again.",
            metadata={"current_etag": current},
        )


async def require_channel(
    connection: Connection, organisation_id: UUID, channel: Channel
) -> ChannelTerms:
    """The channel's terms, or CHANNEL_NOT_CONFIGURED: also when its credentials are not valid."""
    terms = await channel_terms(connection, organisation_id, channel)
    if terms is None:
        raise OutreachError(
            "CHANNEL_NOT_CONFIGURED",
            f"The organisation has no provider credentials for {channel.name}.",
            metadata={"channel": channel.name},
        )
    if terms.fault:
        raise OutreachError(
            "CHANNEL_NOT_CONFIGURED",
            f"The organisation's provider account for {channel.name} can't be used: {terms.fault}",
            metadata={"channel": channel.name},
        )
    return terms


def require_disclaimer(accepted_version: str) -> None:
    """Refuses a run without the current text accepted: DISCLAIMER_NOT_ACCEPTED, DISCLAIMER_OUTDATED."""
    if not accepted_version:
        raise OutreachError(
            "DISCLAIMER_NOT_ACCEPTED",
            "Accept the disclaimer: give the version that GetDisclaimer names.",
            metadata={"version": DISCLAIMER_VERSION},
        )
    if accepted_version != DISCLAIMER_VERSION:
        raise OutreachError(
            "DISCLAIMER_OUTDATED",
            "The disclaimer is another one now: read it and accept the version GetDisclaimer names.",
            metadata={"version": DISCLAIMER_VERSION},
        )


def require_senders(
    campaign: CampaignRecord,
    terms: ChannelTerms,
    purpose: str,
    statuses: Sequence[CampaignStatus] = tuple(CampaignStatus),
) -> None:
    """Refuses an email whose senders are not verified: they may have been, when it was written.

    `statuses`: in which the purpose would be allowed.
    """
    if not isinstance(campaign.content, EmailContent):
        return
    unverified = unverified_senders(campaign.content, terms.senders)
    if unverified:
        raise OutreachError(
            "ACTION_NOT_ALLOWED",
            unverified[0].text,
            metadata={
                "action": purpose,
                "status": campaign.status.name,
                "allowed_statuses": ",".join(status.name for status in statuses),
                "why": "SENDER_NOT_VERIFIED",
            },
            violations=unverified,
        )


def require_template(campaign: CampaignRecord, purpose: str) -> None:
    """Refuses a template that can't be rendered at all; unknown placeholders are no obstacle."""
    unreadable = _unreadable(campaign)
    if unreadable:
        raise template_invalid(campaign, purpose, unreadable)


def require_sendable_template(campaign: CampaignRecord, purpose: str) -> None:
    """Refuses a template that nobody could be sent; a placeholder that no column provides is no
    obstacle: it is a missing value.
    """
    faults = [
        problem for problem in campaign.problems if problem.reason != "TEMPLATE_UNKNOWN_PLACEHOLDER"
    ]
    if faults:
        raise template_invalid(campaign, purpose, faults)


def template_invalid(
    campaign: CampaignRecord, purpose: str, problems: Sequence[Problem]
) -> OutreachError:
    """ACTION_NOT_ALLOWED because of these, in the metadata's words TEMPLATE_INVALID."""
    return OutreachError(
        "ACTION_NOT_ALLOWED",
        f"The template is not valid: {problems[0].description}",
        metadata={
            "action": purpose,
            "status": campaign.status.name,
            "why": "TEMPLATE_INVALID",
        },
        violations=_as_violations(problems),
    )


def _unreadable(campaign: CampaignRecord) -> list[Problem]:
    if isinstance(campaign.content, EmailContent):
        return [] if campaign.report is not None else list(campaign.problems) or [_NOT_COMPILED]
    return [
        problem
        for problem in campaign.problems
        if problem.reason in ("TEMPLATE_EMPTY", "TEMPLATE_MALFORMED")
    ]


def _why_not(campaign: CampaignRecord, action: CampaignAction) -> tuple[str, str]:
    if action is CampaignAction.RUN and campaign.status is CampaignStatus.CREATED:
        if campaign.counts.total == 0:
            return "CONTACTS_MISSING", "Import contacts before the campaign is run."
        first = campaign.problems[0].description if campaign.problems else ""
        return "TEMPLATE_INVALID", f"The template is not valid yet: {first}"
    if action is CampaignAction.RUN and campaign.status is CampaignStatus.READY:
        return "CONTACTS_MISSING", "Nobody is left to send to: all of its contacts were erased."
    if action is CampaignAction.IMPORT_CONTACTS and campaign.counts.total > 0:
        return "CONTACTS_IMPORTED", "Contacts are imported once; make another campaign."
    if action is CampaignAction.STOP and campaign.status is CampaignStatus.IN_PROGRESS:
        return (
            "STOPPED",
            "The campaign is stopped already; what was handed over goes on to its end.",
        )
    if action is CampaignAction.RETRY and campaign.status in ACTION_STATUSES[action]:
        return (
            "NOTHING_TO_RETRY",
            "No message has failed in a way that asks for it, or was cancelled.",
        )
    return (
        "STATUS",
        f"{action.name} is not possible while the campaign is {campaign.status.name}.",
    )


def _as_violations(problems: Sequence[Problem]) -> list[Violation]:
    return [
        Violation(f"campaign.{problem.field}", problem.reason, problem.description)
        for problem in problems
    ]

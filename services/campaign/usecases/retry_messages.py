"""Retry messages: what failed or was cancelled is queued again, as a new run that takes the channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from outreach.crash_points import reached
from outreach.errors import OutreachError, Violation
from outreach.rpc.call import Caller
from outreach.vocabulary import CampaignAction, FailureReason, MessageStatus
from services.campaign.domain.failures import POINTLESS, is_retryable
from services.campaign.domain.lifecycle import ACTION_STATUSES
from services.campaign.store import Connection
from services.campaign.store.campaigns import CampaignRecord
from services.campaign.store.retries import (
    QUEUED_AGAIN_MAX,
    Chosen,
    RetryFilter,
    chosen_messages,
    count_retryable,
    pick_retryable,
    queue_again,
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
from services.campaign.usecases.run_campaign import open_run

#: Messages that may be named one by one.
NUMBERS_MAX: Final = 10_000
#: Of those that may not be retried, so many are told.
NUMBERS_TOLD_MAX: Final = 20
RETRYABLE_STATUSES: Final = frozenset({MessageStatus.FAILED, MessageStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class RetryCommand:
    """Which messages of which campaign: those of `numbers`, or those that match statuses and reasons."""

    campaign_id: UUID
    accepted_disclaimer_version: str
    etag: str
    numbers: tuple[int, ...]
    statuses: tuple[MessageStatus, ...]
    failure_reasons: tuple[FailureReason, ...]
    force: bool


@dataclass(frozen=True, slots=True)
class Retried:
    """The campaign, IN_PROGRESS; how many messages are queued again, and how many match and are not."""

    campaign: CampaignRecord
    messages: int
    not_retryable: int


async def retry_messages(
    connection: Connection, caller: Caller, command: RetryCommand, *, validate_only: bool = False
) -> Retried:
    """`validate_only`: messages are counted and not touched; the transaction is to be rolled back.

    CAMPAIGN_NOT_FOUND, ACTION_NOT_ALLOWED, ETAG_MISMATCH, CHANNEL_NOT_CONFIGURED, DISCLAIMER_NOT_ACCEPTED,
    DISCLAIMER_OUTDATED, INVALID_REQUEST (a number of no message), MESSAGE_NOT_RETRYABLE, NOTHING_TO_RETRY; raises
    ChannelTakenError when the channel is taken, which the caller turns into CHANNEL_BUSY by `channel_busy`.
    """
    action = CampaignAction.RETRY
    campaign = await require_campaign(
        connection, caller.organisation_id, command.campaign_id, locked=True
    )
    require_action(campaign, action)
    require_etag(campaign, command.etag)
    terms = await require_channel(connection, caller.organisation_id, campaign.channel)
    require_template(campaign, action.name)
    require_senders(campaign, terms, action.name, ACTION_STATUSES[action])
    require_disclaimer(command.accepted_disclaimer_version)
    where = RetryFilter(
        statuses=command.statuses,
        failure_reasons=command.failure_reasons,
        pointless=frozenset() if command.force else POINTLESS,
    )
    if command.numbers:
        await _require_retryable(connection, campaign, command)
        matching, not_retryable = len(command.numbers), 0
    else:
        matching, not_retryable = await count_retryable(connection, campaign.id, where)
    if not matching:
        raise _nothing_to_retry(not_retryable)
    # Before the messages: who loses the channel has done no work.
    await open_run(connection, caller, campaign, command.accepted_disclaimer_version)
    if not validate_only:
        retried = await _queue_again(connection, campaign.id, command.numbers, where)
        assert retried == matching, "nobody changes messages while the campaign's row is held"
        reached("retry-before-commit")
    after = await require_campaign(connection, caller.organisation_id, campaign.id)
    return Retried(after, matching, not_retryable)


async def _queue_again(
    connection: Connection, campaign_id: UUID, numbers: Sequence[int], where: RetryFilter
) -> int:
    retried = 0
    if numbers:
        for start in range(0, len(numbers), QUEUED_AGAIN_MAX):
            batch = numbers[start : start + QUEUED_AGAIN_MAX]
            retried += await queue_again(connection, campaign_id, batch)
        return retried
    async for picked in pick_retryable(connection, campaign_id, where):
        retried += await queue_again(connection, campaign_id, picked)
    return retried


async def _require_retryable(
    connection: Connection, campaign: CampaignRecord, command: RetryCommand
) -> None:
    """INVALID_REQUEST for numbers of no message; MESSAGE_NOT_RETRYABLE for what may not be retried."""
    total = campaign.counts.total
    unknown = [index for index, number in enumerate(command.numbers) if not 1 <= number <= total]
    if unknown:
        raise OutreachError.invalid(
            *(
                Violation(
                    f"numbers.numbers[{index}]",
                    "FIELD_OUT_OF_RANGE",
                    f"The campaign's messages are numbered 1 to {total}.",
                )
                for index in unknown[:NUMBERS_TOLD_MAX]
            )
        )
    chosen = await chosen_messages(connection, campaign.id, command.numbers)
    refused = [message for message in chosen if not _may_be_retried(message, command.force)]
    if refused:
        raise _not_retryable(refused)


def _may_be_retried(message: Chosen, force: bool) -> bool:
    if force:
        return message.status in RETRYABLE_STATUSES
    return is_retryable(message.status, message.failure_reason)


def _not_retryable(refused: Sequence[Chosen]) -> OutreachError:
    told = ", ".join(f"{m.number} ({_why(m)})" for m in refused[:NUMBERS_TOLD_MAX])
    more = len(refused) - NUMBERS_TOLD_MAX
    return OutreachError(
        "MESSAGE_NOT_RETRYABLE",
        f"These messages may not be retried: {told}{f', and {more} more' if more > 0 else ''}.",
        metadata={
            "count": str(len(refused)),
            "numbers": ",".join(str(m.number) for m in refused[:NUMBERS_TOLD_MAX]),
            "why": ",".join(_why(m) for m in refused[:NUMBERS_TOLD_MAX]),
        },
    )


def _why(message: Chosen) -> str:
    """The reason after which a retry makes no sense, or the status that has no retry."""
    return (message.failure_reason or message.status).name


def _nothing_to_retry(not_retryable: int) -> OutreachError:
    text = "No message matches."
    if not_retryable:
        text = (
            f"For the {not_retryable:,} messages that match a retry makes no sense; look at their "
            "reasons, or force it."
        )
    return OutreachError("NOTHING_TO_RETRY", text, metadata={"not_retryable": str(not_retryable)})

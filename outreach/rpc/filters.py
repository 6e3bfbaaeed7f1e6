"""Filters of messages and campaigns as requests give them: one meaning for lists and for exports."""

from dataclasses import dataclass

from outreach.rpc.fields import Fields
from outreach.v1 import campaign_pb2, message_pb2
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus

RECIPIENT_CHARACTERS_MAX = 320
CONTAINS_CHARACTERS_MIN = 3
CONTAINS_CHARACTERS_MAX = 100
NAME_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What a message has to match; empty or 0: anything. Recipients are compared in their normal form."""

    statuses: tuple[MessageStatus, ...] = ()
    failure_reasons: tuple[FailureReason, ...] = ()
    recipient: str = ""
    recipient_contains: str = ""
    run: int = 0

    @property
    def is_by_status_alone(self) -> bool:
        """Whether the campaign's counts say how many match."""
        return not (self.failure_reasons or self.recipient or self.recipient_contains or self.run)


@dataclass(frozen=True, slots=True)
class CampaignFilter:
    """What a campaign has to match; empty or None: anything."""

    channel: Channel | None = None
    statuses: tuple[CampaignStatus, ...] = ()
    name_contains: str = ""


def message_filter_of(fields: Fields, where: message_pb2.MessageFilter) -> MessageFilter:
    """Reads `filter`; notes what breaks a rule."""
    if where.run < 0:
        fields.refuse("filter.run", "FIELD_OUT_OF_RANGE", "Runs are numbered from 1.")
    fields.text("filter.recipient", where.recipient, RECIPIENT_CHARACTERS_MAX)
    part = where.recipient_contains
    fields.text("filter.recipient_contains", part, CONTAINS_CHARACTERS_MAX)
    if part and len(part) < CONTAINS_CHARACTERS_MIN:
        text = f"Give {CONTAINS_CHARACTERS_MIN} characters or more."
        fields.refuse("filter.recipient_contains", "FIELD_INVALID", text)
    return MessageFilter(
        statuses=fields.choices("filter.statuses", where.statuses, MessageStatus),
        failure_reasons=fields.choices(
            "filter.failure_reasons", where.failure_reasons, FailureReason
        ),
        recipient=where.recipient,
        recipient_contains=part,
        run=where.run,
    )


def campaign_filter_of(fields: Fields, where: campaign_pb2.CampaignFilter) -> CampaignFilter:
    """Reads `filter`; notes what breaks a rule."""
    return CampaignFilter(
        channel=fields.choice("filter.channel", where.channel, Channel, None)
        if where.channel
        else None,
        statuses=fields.choices("filter.statuses", where.statuses, CampaignStatus),
        name_contains=fields.text("filter.name_contains", where.name_contains, NAME_CHARACTERS_MAX),
    )

"""The words of the protos' enums as people and options say them: IN_PROGRESS, in-progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import typer

from outreach.v1 import campaign_pb2, message_pb2
from outreach.v1.channel_pb2 import Channel
from outreach.v1.failure_reason_pb2 import FailureReason
from outreach.v1.suppression_pb2 import SuppressionSource

#: What this program can do of what the API allows.
COMMANDS: Mapping[campaign_pb2.CampaignAction.ValueType, str] = {
    campaign_pb2.CAMPAIGN_ACTION_UPDATE: "campaign update",
    campaign_pb2.CAMPAIGN_ACTION_IMPORT_CONTACTS: "contacts upload",
    campaign_pb2.CAMPAIGN_ACTION_RUN: "campaign run",
    campaign_pb2.CAMPAIGN_ACTION_STOP: "campaign stop",
    campaign_pb2.CAMPAIGN_ACTION_RETRY: "campaign retry",
    campaign_pb2.CAMPAIGN_ACTION_DELETE: "campaign delete",
    campaign_pb2.CAMPAIGN_ACTION_EXPORT: "export messages",
}

Number = TypeVar("Number", bound=int)


class _Enum(Protocol[Number]):
    def Name(self, number: Number) -> str: ...  # noqa: N802 - protobuf's name

    def items(self) -> Iterable[tuple[str, Number]]: ...


def short_name(name: str, prefix: str) -> str:
    """`CAMPAIGN_STATUS_READY` without its prefix."""
    return name.removeprefix(prefix)


def campaign_status(number: campaign_pb2.CampaignStatus.ValueType) -> str:
    """The status's name, as in COMPLETE_WITH_ERRORS."""
    return short_name(campaign_pb2.CampaignStatus.Name(number), "CAMPAIGN_STATUS_")


def message_status(number: message_pb2.MessageStatus.ValueType) -> str:
    """The status's name, as in ASSUMED_DELIVERED."""
    return short_name(message_pb2.MessageStatus.Name(number), "MESSAGE_STATUS_")


def failure_reason(number: FailureReason.ValueType) -> str:
    """The reason's name, as in UNREACHABLE; empty for none."""
    return "" if not number else short_name(FailureReason.Name(number), "FAILURE_REASON_")


def suppression_source(number: SuppressionSource.ValueType) -> str:
    """The source's name, as in SPAM_REPORT."""
    return short_name(SuppressionSource.Name(number), "SUPPRESSION_SOURCE_")


def channel(number: Channel.ValueType) -> str:
    """SMS or EMAIL."""
    return short_name(Channel.Name(number), "CHANNEL_")


def campaign_commands(actions: Iterable[campaign_pb2.CampaignAction.ValueType]) -> list[str]:
    """The commands that do these actions; actions without a command are left out."""
    return [COMMANDS[action] for action in actions if action in COMMANDS]


def parse(enum: _Enum[Number], prefix: str, word: str, option: str) -> Number:
    """The number of a word, in any case, with `-` or `_`; wrong words are a usage error."""
    known = {short_name(name, prefix): number for name, number in enum.items() if number}
    number = known.get(word.strip().upper().replace("-", "_"))
    if number is None:
        words = ", ".join(name.lower().replace("_", "-") for name in known)
        raise typer.BadParameter(f"{word!r} is none of: {words}.", param_hint=option)
    return number


def parse_campaign_statuses(
    words: Sequence[str],
) -> list[campaign_pb2.CampaignStatus.ValueType]:
    """The statuses of `--status` options of campaigns."""
    enum = campaign_pb2.CampaignStatus
    return [parse(enum, "CAMPAIGN_STATUS_", word, "--status") for word in words]


def parse_message_statuses(words: Sequence[str]) -> list[message_pb2.MessageStatus.ValueType]:
    """The statuses of `--status` options of messages."""
    enum = message_pb2.MessageStatus
    return [parse(enum, "MESSAGE_STATUS_", word, "--status") for word in words]


def parse_failure_reasons(
    words: Sequence[str], option: str = "--reason"
) -> list[FailureReason.ValueType]:
    """The reasons of `--reason` options."""
    return [parse(FailureReason, "FAILURE_REASON_", word, option) for word in words]


def parse_channel(word: str) -> Channel.ValueType:
    """The channel of a `--channel` option."""
    return parse(Channel, "CHANNEL_", word, "--channel")

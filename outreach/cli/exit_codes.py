"""How a command ended, as a number that a script can branch on (docs/cli.md lists them)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import grpc

from outreach.client.errors import CallError
from outreach.v1 import campaign_pb2, message_pb2, test_send_pb2


class ExitCode(IntEnum):
    """The exit codes of every command."""

    OK = 0
    # A rule forbids it now: the campaign's status, a busy channel, a missing confirmation.
    REFUSED = 1
    # Wrong options, an unreadable file, or input that breaks a rule.
    USAGE = 2
    NOT_FOUND = 3
    NOT_PERMITTED = 4
    UNAVAILABLE = 5
    # The campaign is final, or the test was sent, and not everything went well.
    ENDED_WITH_ERRORS = 6
    # A fault of this program or of the service.
    FAULT = 7
    INTERRUPTED = 130


_BY_STATUS: Mapping[grpc.StatusCode, ExitCode] = {
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.REFUSED,
    grpc.StatusCode.ABORTED: ExitCode.REFUSED,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.REFUSED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExitCode.REFUSED,
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    grpc.StatusCode.OUT_OF_RANGE: ExitCode.USAGE,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED: ExitCode.NOT_PERMITTED,
    grpc.StatusCode.PERMISSION_DENIED: ExitCode.NOT_PERMITTED,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.UNAVAILABLE,
}


def exit_code_of_error(error: CallError) -> ExitCode:
    """The exit code for a refused or failed call."""
    return _BY_STATUS.get(error.code, ExitCode.FAULT)


def exit_code_of_test(test: test_send_pb2.TestSend) -> ExitCode:
    """The exit code for a test send: whether every message was handed over, or was not to be."""
    if not_handed_over(test) or any(
        message.status == message_pb2.MESSAGE_STATUS_FAILED for message in test.messages
    ):
        return ExitCode.ENDED_WITH_ERRORS
    return ExitCode.OK


def not_handed_over(test: test_send_pb2.TestSend) -> int:
    """How many messages a sender still has to do with."""
    waiting = (message_pb2.MESSAGE_STATUS_QUEUED, message_pb2.MESSAGE_STATUS_SENDING)
    return sum(message.status in waiting for message in test.messages)


def exit_code_of_end(status: campaign_pb2.CampaignStatus.ValueType) -> ExitCode:
    """The exit code for a campaign that was watched until it was final."""
    if status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE:
        return ExitCode.OK
    return ExitCode.ENDED_WITH_ERRORS

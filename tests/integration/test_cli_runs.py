"""`campaign stop`, `campaign retry` and `messages show`, as processes of their own."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import AsyncIterator

import pytest

from outreach.cli.exit_codes import ExitCode
from outreach.errors import OutreachError
from outreach.v1 import campaign_pb2, failure_reason_pb2, message_pb2
from tests.cli_rig import COMMAND, Cli
from tests.scripted_api import CAMPAIGN_ID, ScriptedApi, script_run, serving_scripted

FAILED, CANCELLED = message_pb2.MESSAGE_STATUS_FAILED, message_pb2.MESSAGE_STATUS_CANCELLED


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
async def cli(api: ScriptedApi) -> AsyncIterator[Cli]:
    async with serving_scripted(api) as address:
        yield Cli(address)


def last(api: ScriptedApi, kind: type) -> object:
    """The latest request of this kind."""
    return [request for request in api.requests if isinstance(request, kind)][-1]


async def at_a_terminal(cli: Cli, answer: bytes, *arguments: str) -> tuple[int, str]:
    """Exit code, and what was shown to somebody who typed `answer`."""
    master, slave = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            stdin=slave,
            stdout=asyncio.subprocess.PIPE,
            stderr=slave,
            env=cli.env,
        )
        os.write(master, answer)
        await process.communicate()
        os.set_blocking(master, False)
        shown = os.read(master, 65_536).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert process.returncode is not None
    return process.returncode, shown


async def test_a_stop_needs_a_yes(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("campaign", "stop", CAMPAIGN_ID)
    assert ended.code == ExitCode.REFUSED
    assert "--yes" in ended.err
    ended = await cli("campaign", "stop", CAMPAIGN_ID, "--json")
    assert ended.data["error"]["reason"] == "STOP_NOT_CONFIRMED"
    code, shown = await at_a_terminal(cli, b"n\n", "campaign", "stop", CAMPAIGN_ID)
    assert code == ExitCode.REFUSED
    assert "is not called back" in shown
    assert not any(isinstance(r, campaign_pb2.StopCampaignRequest) for r in api.requests)
    code, shown = await at_a_terminal(cli, b"yes\n", "campaign", "stop", CAMPAIGN_ID)
    assert code == ExitCode.OK
    assert last(api, campaign_pb2.StopCampaignRequest)


async def test_a_script_stops_with_yes(api: ScriptedApi, cli: Cli) -> None:
    api.campaign.counts.CopyFrom(
        campaign_pb2.StatusCounts(queued=1_000, sending=2, sent=3, total=1_005)
    )
    ended = await cli("campaign", "stop", CAMPAIGN_ID, "--yes", "--etag", "e1")
    assert ended.code == ExitCode.OK
    assert "1,000 queued are being cancelled; 5 handed over go on" in ended.err
    assert "--cancelled" in ended.err
    (request,) = api.requests
    assert (request.id, request.etag) == (CAMPAIGN_ID, "e1")
    assert len(request.request_id) == 36
    ended = await cli("campaign", "stop", CAMPAIGN_ID, "-y", "--json")
    assert ended.data["id"] == CAMPAIGN_ID


async def test_a_stop_can_be_waited_for(api: ScriptedApi, cli: Cli) -> None:
    script_run(api, failed=1)
    ended = await cli("campaign", "stop", CAMPAIGN_ID, "--yes", "--wait")
    assert ended.code == ExitCode.ENDED_WITH_ERRORS
    assert "COMPLETE_WITH_ERRORS" in ended.out


async def test_a_stop_that_is_refused_says_why(api: ScriptedApi, cli: Cli) -> None:
    api.failures = [OutreachError("ACTION_NOT_ALLOWED", "It is stopped already.")]
    ended = await cli("campaign", "stop", CAMPAIGN_ID, "--yes")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert "It is stopped already." in ended.err


@pytest.mark.parametrize(
    ("options", "statuses", "reasons", "numbers"),
    [
        (["--all-failed"], [FAILED], [], []),
        (["--cancelled"], [CANCELLED], [], []),
        (["--status", "failed", "--cancelled"], [FAILED, CANCELLED], [], []),
        (["--all-failed", "--status", "failed"], [FAILED], [], []),
        (
            ["--reason", "rate-limited"],
            [],
            [failure_reason_pb2.FAILURE_REASON_RATE_LIMITED],
            [],
        ),
        (["--number", "3", "--number", "17"], [], [], [3, 17]),
    ],
)
async def test_which_messages_are_retried(
    api: ScriptedApi,
    cli: Cli,
    options: list[str],
    statuses: list[int],
    reasons: list[int],
    numbers: list[int],
) -> None:
    ended = await cli("campaign", "retry", CAMPAIGN_ID, *options, "--accept-disclaimer")
    assert ended.code == ExitCode.OK
    assert "1,200 messages queued again." in ended.err
    assert "3 left as they are" in ended.err
    request = api.requests[-1]
    assert request.accepted_disclaimer_version == "v1"
    assert (request.force, request.validate_only) == (False, False)
    if numbers:
        assert list(request.numbers.numbers) == numbers
        assert request.WhichOneof("messages") == "numbers"
    else:
        assert list(request.filter.statuses) == statuses
        assert list(request.filter.failure_reasons) == reasons
        assert request.WhichOneof("messages") == "filter"


async def test_a_retry_shows_the_disclaimer_and_asks(api: ScriptedApi, cli: Cli) -> None:
    retry = ("campaign", "retry", CAMPAIGN_ID, "--all-failed")
    ended = await cli(*retry)
    assert ended.code == ExitCode.REFUSED
    assert "--accept-disclaimer" in ended.err
    code, shown = await at_a_terminal(cli, b"\n", *retry)
    assert code == ExitCode.REFUSED
    assert "4. four" in shown
    assert not any(isinstance(r, campaign_pb2.RetryMessagesRequest) for r in api.requests)
    code, shown = await at_a_terminal(cli, b"y\n", *retry)
    assert code == ExitCode.OK
    assert last(api, campaign_pb2.RetryMessagesRequest)


async def test_a_check_retries_nothing(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli(
        *("campaign", "retry", CAMPAIGN_ID, "--all-failed", "--force", "--check", "--wait"),
        *("--accept-disclaimer", "--etag", "e1"),
    )
    assert ended.code == ExitCode.OK
    assert "1,200 messages can be retried. Nothing was sent." in ended.err
    request = api.requests[-1]
    assert (request.validate_only, request.force, request.etag) == (True, True, "e1")
    ended = await cli(
        "campaign", "retry", CAMPAIGN_ID, "--cancelled", "--accept-disclaimer", "--json"
    )
    assert (ended.data["retried"], ended.data["not_retryable"]) == (1_200, 3)


async def test_a_retry_can_be_waited_for(api: ScriptedApi, cli: Cli) -> None:
    script_run(api)
    ended = await cli(
        "campaign", "retry", CAMPAIGN_ID, "--cancelled", "--accept-disclaimer", "--wait"
    )
    assert ended.code == ExitCode.OK
    assert "COMPLETE" in ended.out


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--force"],
        ["--number", "1", "--all-failed"],
        ["--number", "1", "--reason", "unreachable"],
        ["--number", "0"],
        ["--status", "delivred"],
        ["--reason", "whatever"],
    ],
)
async def test_what_is_not_said_clearly_is_not_retried(
    api: ScriptedApi, cli: Cli, options: list[str]
) -> None:
    ended = await cli("campaign", "retry", CAMPAIGN_ID, *options, "--accept-disclaimer")
    assert ended.code == ExitCode.USAGE
    assert api.requests == []


async def test_a_message_is_shown_with_its_timeline(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("messages", "show", CAMPAIGN_ID, "7")
    assert ended.code == ExitCode.OK
    lines = ended.out.splitlines()
    assert any(
        "SM-1" in line and "FAILED: UNREACHABLE" in line and "30003" in line for line in lines
    )
    assert any(line.split() == ["2", "2", "DELIVERED"] for line in lines)
    assert "Hi Ada [1], {{city}}" in ended.out
    (request,) = api.requests
    assert (request.campaign_id, request.number) == (CAMPAIGN_ID, 7)
    ended = await cli("messages", "show", CAMPAIGN_ID, "7", "--json")
    assert [a["attempt"] for a in ended.data["attempts"]] == [1, 2]
    assert (await cli("messages", "show", CAMPAIGN_ID, "0")).code == ExitCode.USAGE
    api.failures = [OutreachError("MESSAGE_NOT_FOUND", "Messages are numbered 1 to 3.")]
    assert (await cli("messages", "show", CAMPAIGN_ID, "9")).code == ExitCode.NOT_FOUND

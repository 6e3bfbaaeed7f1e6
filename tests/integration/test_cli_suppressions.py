"""`outreach suppressions …` and `outreach campaign delete`, and the client's calls under them."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import stamina.instrumentation

from outreach.cli.exit_codes import ExitCode
from outreach.client import CallError, OutreachClient, Timeouts
from outreach.errors import OutreachError
from outreach.v1 import suppression_pb2
from outreach.v1.channel_pb2 import CHANNEL_EMAIL, CHANNEL_SMS
from tests.cli_rig import COMMAND, Cli
from tests.scripted_api import API_KEY, CAMPAIGN_ID, ScriptedApi, serving_scripted

UNAVAILABLE = OutreachError("STORE_UNAVAILABLE", "Not now.")
NUMBER = "+15005550001"


@pytest.fixture(autouse=True)
def _quiet_retries() -> None:
    stamina.instrumentation.set_on_retry_hooks([])


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
async def address(api: ScriptedApi) -> AsyncIterator[str]:
    async with serving_scripted(api) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[OutreachClient]:
    timeouts = Timeouts(retry_seconds_max=60.0, call_seconds=60.0)
    async with OutreachClient(address, API_KEY, timeouts=timeouts) as client:
        yield client


@pytest.fixture
def cli(address: str) -> Cli:
    return Cli(address)


@pytest.fixture
def csv_path(tmp_path: Path) -> Path:
    path = tmp_path / "stop.csv"
    path.write_bytes(b"phone\n+15005550001\n" * 5_000)
    return path


async def test_list_reads_page_after_page(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("suppressions", "list", "--limit", "0", "--channel", "sms")
    assert ended.code == ExitCode.OK
    assert [request.page_token for request in api.requests] == ["", "1", "2"]
    assert {request.channel for request in api.requests} == {CHANNEL_SMS}
    for shown in ("+15005550000", "+15005550002", "not kept", "REPLY", "SMS"):
        assert shown in ended.out
    ended = await cli("suppressions", "list", "--limit", "3", "--json")
    assert [line["recipient"] for line in ended.lines] == ["+15005550000", "", "+15005550001"]
    assert ended.lines[0]["source"] == "SUPPRESSION_SOURCE_REPLY"
    ended = await cli("suppressions", "list", "--limit", "2")
    assert "--limit 0 for all" in ended.err, "that there may be more is told"


async def test_check_and_add(api: ScriptedApi, cli: Cli) -> None:
    for command in ("check", "add"):
        ended = await cli("suppressions", command, NUMBER, "--channel", "sms")
        assert ended.code == ExitCode.OK
        assert NUMBER in ended.out
        assert "OPERATOR" in ended.out
        ended = await cli("suppressions", command, NUMBER, "--channel", "sms", "--json")
        assert ended.data["recipient"] == NUMBER
    assert [type(request).__name__ for request in api.requests] == [
        *["GetSuppressionRequest"] * 2,
        *["CreateSuppressionRequest"] * 2,
    ]
    api.failures = [OutreachError("SUPPRESSION_NOT_FOUND", "Not suppressed.")]
    ended = await cli("suppressions", "check", NUMBER, "--channel", "sms")
    assert ended.code == ExitCode.NOT_FOUND
    assert (await cli("suppressions", "check", NUMBER)).code == ExitCode.USAGE
    assert (await cli("suppressions", "check", NUMBER, "--channel", "fax")).code == ExitCode.USAGE


COMMANDS = (
    ("campaign", "delete", CAMPAIGN_ID),
    ("suppressions", "remove", NUMBER, "--channel", "sms"),
    ("suppressions", "erase", NUMBER, "--channel", "sms"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
async def test_without_a_terminal_nothing_is_assumed(
    api: ScriptedApi, cli: Cli, command: tuple[str, ...]
) -> None:
    ended = await cli(*command)
    assert ended.code == ExitCode.REFUSED
    assert "--yes" in ended.err
    ended = await cli(*command, "--json")
    assert ended.data["error"]["reason"] == "NOT_CONFIRMED"
    assert api.requests == []
    ended = await cli(*command, "--yes")
    assert ended.code == ExitCode.OK
    ended = await cli(*command, "--yes", "--json")
    assert ended.code == ExitCode.OK
    assert ended.data
    assert len(api.requests) == 2
    assert all(request.request_id for request in api.requests)


@pytest.mark.parametrize("answer", ["y", "n", ""])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
async def test_at_a_terminal_it_is_asked(
    api: ScriptedApi, cli: Cli, command: tuple[str, ...], answer: str
) -> None:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, *command),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**cli.env, "TERM": "xterm"},
    )
    os.close(slave)
    os.write(master, f"{answer}\n".encode())
    shown = b""
    try:
        async with asyncio.timeout(240):
            while not shown.count(b"[y/N]") or process.returncode is None:
                try:
                    shown += await asyncio.to_thread(os.read, master, 65_536)
                except OSError:  # closed at the other end
                    break
            await process.wait()
    finally:
        os.close(master)
    assert b"[y/N]" in shown
    done = [each for each in api.requests if not type(each).__name__.startswith("GetCampaign")]
    assert len(done) == (answer == "y")
    assert process.returncode == (ExitCode.OK if answer == "y" else ExitCode.REFUSED)
    if command[1] == "delete":
        assert b"Autumn [sale]: READY, 3 messages" in shown


async def test_delete_hands_on_the_etag_and_the_refusal(api: ScriptedApi, cli: Cli) -> None:
    api.failures = [OutreachError("ETAG_MISMATCH", "Changed.")]
    ended = await cli("campaign", "delete", CAMPAIGN_ID, "--yes", "--etag", "x")
    assert ended.code == ExitCode.REFUSED
    (request,) = api.requests
    assert (request.id, request.etag) == (CAMPAIGN_ID, "x")


async def test_import_sends_the_file(api: ScriptedApi, cli: Cli, csv_path: Path) -> None:
    ended = await cli(
        *("suppressions", "import", str(csv_path), "--channel", "email"),
        *("--column", "phone", "--no-header"),
    )
    assert ended.code == ExitCode.OK
    assert "2 added of 5 rows (2 known, 1 invalid)" in ended.out
    header = api.requests[0].header
    assert (header.channel, header.file_name, header.column) == (CHANNEL_EMAIL, "stop.csv", "phone")
    assert header.HasField("has_header")
    assert not header.has_header
    assert header.size_bytes == csv_path.stat().st_size
    assert api.file == csv_path.read_bytes()
    ended = await cli("suppressions", "import", str(csv_path), "--channel", "sms", "--json")
    assert ended.data == {"rows": 5, "added": 2, "known": 2, "invalid": 1}
    assert not api.requests[1].header.HasField("has_header")


async def test_erase_tells_what_it_did(cli: Cli) -> None:
    ended = await cli("suppressions", "erase", NUMBER, "--channel", "sms", "--yes")
    assert "Erased: 2 contacts of 1 campaign; 1 message will not be sent, 1 under way." in ended.out


async def test_the_client_repeats_with_one_request_id(
    api: ScriptedApi, client: OutreachClient, csv_path: Path
) -> None:
    calls: list[Any] = [
        client.delete_campaign(CAMPAIGN_ID),
        client.create_suppression(CHANNEL_SMS, NUMBER),
        client.delete_suppression(CHANNEL_SMS, NUMBER),
        client.erase_person(CHANNEL_SMS, NUMBER),
        client.import_suppressions(CHANNEL_SMS, csv_path),
    ]
    for call in calls:
        api.requests.clear()
        api.failures = [UNAVAILABLE]
        await call
        first, second = api.requests
        assert first == second
        header = getattr(first, "header", first)
        assert header.request_id
    assert api.file == csv_path.read_bytes()


async def test_an_iterator_is_sent_once(api: ScriptedApi, client: OutreachClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"phone\n"
        yield b"+15005550001\n"

    answer = await client.import_suppressions(CHANNEL_SMS, pieces())
    assert isinstance(answer, suppression_pb2.ImportSuppressionsResponse)
    assert api.file == b"phone\n+15005550001\n"
    api.failures = [UNAVAILABLE]
    with pytest.raises(CallError) as caught:
        await client.import_suppressions(CHANNEL_SMS, pieces())
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert len(api.requests) == 2

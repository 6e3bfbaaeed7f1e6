"""`outreach attachments …`, and the client's calls under it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pty
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import stamina.instrumentation

from outreach.cli.exit_codes import ExitCode
from outreach.client import CallError, OutreachClient, Timeouts
from outreach.client import attachments as client_attachments
from outreach.client.uploads import CHUNK_BYTES_MAX
from outreach.errors import OutreachError, Violation
from tests.attachment_files import windows_program
from tests.attachment_rig import attachment_rig
from tests.cli_rig import COMMAND, Cli
from tests.scripted_api import API_KEY, CAMPAIGN_ID, ScriptedApi, serving_scripted
from tests.waiting import eventually

UNAVAILABLE = OutreachError("STORE_UNAVAILABLE", "Not now.")
BLOCKED = OutreachError(
    "ATTACHMENT_TYPE_BLOCKED",
    "The file is a script.",
    metadata={"rule": "content"},
    violations=[Violation("file", "ATTACHMENT_TYPE_BLOCKED", "The file is a script.")],
)


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
def paths(tmp_path: Path) -> list[Path]:
    """Three files."""
    found = [tmp_path / name for name in ("one [a].pdf", "two.txt", "three.txt")]
    for number, path in enumerate(found, 1):
        path.write_bytes(b"x" * 1_000 * number)
    return found


@pytest.mark.parametrize("kind", ["path", "bytes", "iterator"])
async def test_a_file_goes_in_chunks_with_its_checksum(
    api: ScriptedApi, client: OutreachClient, tmp_path: Path, kind: str
) -> None:
    content = bytes(range(256)) * 1_200
    told: list[tuple[int, int | None]] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield content[:100_000]
        yield content[100_000:]

    path = tmp_path / "prices.pdf"
    path.write_bytes(content)
    source = {"path": path, "bytes": content, "iterator": pieces()}[kind]
    attachment = await client.upload_attachment(
        CAMPAIGN_ID,
        source,  # type: ignore[arg-type] # one of the three kinds
        file_name=None if kind == "path" else "prices.pdf",
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert attachment.size_bytes == len(content)
    assert api.file == content
    assert api.upload_chunk_bytes_max == CHUNK_BYTES_MAX
    header = api.requests[0].header
    assert (header.campaign_id, header.file_name) == (CAMPAIGN_ID, "prices.pdf")
    assert header.content_type == ""
    assert header.request_id
    known = kind != "iterator"
    assert header.size_bytes == (len(content) if known else 0)
    assert header.sha256 == (hashlib.sha256(content).hexdigest() if known else "")
    assert told[-1] == (len(content), len(content) if known else None)


async def test_what_is_known_of_an_iterators_file_can_be_given(
    api: ScriptedApi, client: OutreachClient
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    await client.upload_attachment(
        CAMPAIGN_ID,
        pieces(),
        file_name="a.txt",
        content_type="text/markdown",
        size_bytes=1,
        sha256="ab" * 32,
        request_id="018f4e6a-7c1b-7d3e-9a55-0123456789ab",
    )
    header = api.requests[0].header
    assert (header.size_bytes, header.sha256) == (1, "ab" * 32)
    assert header.content_type == "text/markdown"
    assert header.request_id == "018f4e6a-7c1b-7d3e-9a55-0123456789ab"


async def test_an_upload_is_repeated_as_the_same_request(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]
    await client.upload_attachment(CAMPAIGN_ID, b"x" * 100_000, file_name="a.txt")
    assert len(api.requests) == 3
    assert len({request.header.request_id for request in api.requests}) == 1
    assert api.file == b"x" * 100_000


async def test_an_iterator_is_uploaded_once(api: ScriptedApi, client: OutreachClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    api.failures = [UNAVAILABLE]
    with pytest.raises(CallError):
        await client.upload_attachment(CAMPAIGN_ID, pieces(), file_name="a.txt")
    assert len(api.requests) == 1


async def test_a_file_far_over_any_limit_is_not_read_for_its_checksum(
    api: ScriptedApi, client: OutreachClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_attachments, "_CHECKSUM_BYTES_MAX", 10)
    await client.upload_attachment(CAMPAIGN_ID, b"x" * 10, file_name="a.txt")
    await client.upload_attachment(CAMPAIGN_ID, b"x" * 11, file_name="a.txt")
    assert [bool(request.header.sha256) for request in api.requests] == [True, False]


async def test_taking_off_is_repeated_as_the_same_request(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [UNAVAILABLE]
    await client.delete_attachment(CAMPAIGN_ID, "attachment-1")
    assert [request.id for request in api.requests] == ["attachment-1"] * 2
    assert len({request.request_id for request in api.requests}) == 1


async def test_add_one_after_the_other(api: ScriptedApi, cli: Cli, paths: list[Path]) -> None:
    ended = await cli("attachments", "add", CAMPAIGN_ID, *map(str, paths))
    assert ended.code == ExitCode.OK, ended.err
    assert [request.header.file_name for request in api.requests] == [p.name for p in paths]
    for path, attachment in zip(paths, api.attachments, strict=True):
        assert path.name in ended.out
        assert attachment.id in ended.out
    assert "application/x-scripted" in ended.out


async def test_add_as_json_with_a_type(api: ScriptedApi, cli: Cli, paths: list[Path]) -> None:
    ended = await cli(
        *("attachments", "add", CAMPAIGN_ID, str(paths[0]), "--type", "text/csv", "--json")
    )
    assert ended.code == ExitCode.OK
    (attachment,) = ended.data["attachments"]
    assert attachment["file_name"] == "one [a].pdf"
    assert attachment["content_type"] == "text/csv"
    assert attachment["size_bytes"] == "1000"
    assert ended.err == ""


async def test_add_ends_at_the_first_refusal(api: ScriptedApi, cli: Cli, paths: list[Path]) -> None:
    # More than one: an upload whose refusal gRPC lost is repeated.
    api.failures = [BLOCKED] * 20
    ended = await cli("attachments", "add", CAMPAIGN_ID, *map(str, paths))
    assert ended.code == ExitCode.USAGE
    assert ended.out == ""
    assert "one [a].pdf was not added" in ended.err
    assert "a link to it" in ended.err
    assert api.attachments == []


async def test_list(api: ScriptedApi, cli: Cli, paths: list[Path]) -> None:
    ended = await cli("attachments", "list", CAMPAIGN_ID)
    assert (ended.code, ended.out) == (ExitCode.OK, "")
    assert "0 attachments, 0 bytes of 20.0 MB" in ended.err
    await cli("attachments", "add", CAMPAIGN_ID, str(paths[1]))
    ended = await cli("attachments", "list", CAMPAIGN_ID)
    assert "two.txt" in ended.out
    assert "1 attachment, 2.0 kB of 20.0 MB" in ended.err
    ended = await cli("attachments", "list", CAMPAIGN_ID, "--json")
    assert [a["file_name"] for a in ended.data["attachments"]] == ["two.txt"]
    assert (ended.data["size_bytes"], ended.data["size_bytes_max"]) == ("2000", "20000000")


async def test_remove(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("attachments", "remove", CAMPAIGN_ID, "attachment-1")
    assert (ended.code, ended.out) == (ExitCode.OK, "")
    assert api.requests[0].id == "attachment-1"
    ended = await cli("attachments", "remove", CAMPAIGN_ID, "attachment-1", "--json")
    assert ended.data == {"id": "attachment-1"}
    api.failures = [OutreachError("ATTACHMENT_NOT_FOUND", "Not there.")]
    ended = await cli("attachments", "remove", CAMPAIGN_ID, "attachment-1", "--json")
    assert ended.code == ExitCode.NOT_FOUND
    assert ended.data["error"]["reason"] == "ATTACHMENT_NOT_FOUND"


@pytest.mark.parametrize(
    "arguments",
    [
        ["add"],
        ["add", CAMPAIGN_ID],
        ["add", CAMPAIGN_ID, "no-such-file.pdf"],
        ["add", CAMPAIGN_ID, "/"],
        # read for its checksum it never ended
        ["add", CAMPAIGN_ID, "/dev/zero"],
        ["list"],
        ["remove", CAMPAIGN_ID],
    ],
)
async def test_wrong_usage(api: ScriptedApi, cli: Cli, arguments: list[str]) -> None:
    ended = await cli("attachments", *arguments)
    assert ended.code == ExitCode.USAGE
    assert ended.out == ""
    assert api.requests == []


async def test_at_a_terminal_there_is_a_bar(api: ScriptedApi, cli: Cli, paths: list[Path]) -> None:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "attachments", "add", CAMPAIGN_ID, str(paths[0])),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**cli.env, "TERM": "xterm"},
    )
    os.close(slave)
    os.set_blocking(master, False)
    shown = b""

    def ended() -> bool:
        nonlocal shown
        with contextlib.suppress(OSError):  # nothing yet, or closed at the other end
            shown += os.read(master, 65_536)
        return process.returncode is not None

    try:
        await eventually(ended, 240.0, what="the command ends")
        ended()
    finally:
        os.close(master)
    assert process.returncode == ExitCode.OK
    assert b"Uploading" in shown
    assert b"one [a].pdf, 1.0 kB of 1.0 kB" in shown
    assert b"100 %" in shown


async def test_what_was_added_before_a_refusal_stays_and_is_shown(
    database_dsn: str, tmp_path: Path
) -> None:
    async with attachment_rig(database_dsn) as rig:
        cli = Cli(rig.service.public_address, rig.tenant.key)
        campaign_id = await rig.campaign()
        good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
        good.write_bytes(b"Dear all")
        bad.write_bytes(windows_program())
        ended = await cli("attachments", "add", campaign_id, str(good), str(bad), "--json")
        assert ended.code == ExitCode.USAGE
        (attachment,) = ended.data["attachments"]
        assert attachment["sha256"] == hashlib.sha256(b"Dear all").hexdigest()
        assert ended.data["error"]["metadata"]["rule"] == "content"
        assert await rig.names(campaign_id) == ["good.txt"]
        ended = await cli("attachments", "remove", campaign_id, attachment["id"])
        assert ended.code == ExitCode.OK
        assert await rig.names(campaign_id) == []
        ended = await cli("attachments", "add", campaign_id, str(good), str(bad), str(good))
        assert ended.code == ExitCode.USAGE
        assert "good.txt" in ended.out
        assert "bad.txt was not added" in ended.err
        assert await rig.names(campaign_id) == ["good.txt"]

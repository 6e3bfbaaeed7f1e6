from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from outreach.cli.exit_codes import ExitCode
from outreach.errors import OutreachError, Violation
from outreach.v1 import campaign_pb2, message_pb2
from tests.cli_rig import COMMAND, Cli, Ended
from tests.scripted_api import CAMPAIGN_ID, ScriptedApi, script_run, serving_scripted
from tests.waiting import eventually

CSV = b"phone,mobile,First name\r\n+14155550100,,Ada\r\n"
S = message_pb2.MessageStatus


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
async def cli(api: ScriptedApi) -> AsyncIterator[Cli]:
    async with serving_scripted(api) as address:
        yield Cli(address)


@pytest.fixture
def csv_path(tmp_path: Path) -> Path:
    path = tmp_path / "contacts.csv"
    path.write_bytes(CSV)
    return path


async def test_create_gives_everything_on(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli(
        *("campaign", "create", "--name", "Autumn", "--body", "Hi {{name|you}}"),
        *("--missing", "skip", "--from", "MG" + "0" * 32, "--validity-seconds", "60", "--json"),
    )
    assert ended.code == ExitCode.OK
    assert ended.data["id"] == CAMPAIGN_ID
    (request,) = api.requests
    campaign = request.campaign
    assert campaign.sms.body == "Hi {{name|you}}"
    assert campaign.sms.sender.messaging_service_sid == "MG" + "0" * 32
    assert campaign.sms.validity_period.seconds == 60
    assert campaign.missing_variable_policy == campaign_pb2.MISSING_VARIABLE_POLICY_SKIP
    assert not request.validate_only


async def test_create_reads_the_body_from_a_file(
    api: ScriptedApi, cli: Cli, tmp_path: Path
) -> None:
    body = tmp_path / "body.txt"
    body.write_text("\ufeffHé {{name}}\n", "utf-8")
    ended = await cli("campaign", "create", "--name", "x", "--body-file", str(body), "--check")
    assert ended.code == ExitCode.OK
    assert api.requests[0].campaign.sms.body == "Hé {{name}}"
    assert api.requests[0].validate_only
    assert "nothing was stored" in ended.err


async def test_update_changes_only_what_is_given(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("campaign", "update", CAMPAIGN_ID, "--body", "Hi", "--missing", "skip")
    assert ended.code == ExitCode.OK
    (request,) = api.requests
    assert list(request.update_mask.paths) == ["sms.body", "missing_variable_policy"]
    assert request.campaign.sms.body == "Hi"
    assert (await cli("campaign", "update", CAMPAIGN_ID)).code == ExitCode.USAGE


@pytest.mark.parametrize("columns", ["80", "160"])
async def test_a_table_never_cuts_an_id(api: ScriptedApi, cli: Cli, columns: str) -> None:
    ended = await cli("campaign", "list", env={"COLUMNS": columns})
    assert ended.code == ExitCode.OK
    assert f"{CAMPAIGN_ID[:-1]}0" in ended.out


async def test_a_field_at_fault_is_named_with_its_rule(api: ScriptedApi, cli: Cli) -> None:
    violation = Violation("campaign.name", "FIELD_REQUIRED", "Give the campaign a name.")
    api.failures = [OutreachError.invalid(violation)] * 2
    ended = await cli("campaign", "create", "--name", "")
    assert ended.code == ExitCode.USAGE
    assert "Give the campaign a name." in ended.err
    assert "campaign.name (FIELD_REQUIRED)" in ended.err
    assert ended.out == ""
    ended = await cli("campaign", "create", "--name", "", "--json")
    assert ended.data["error"]["violations"] == [
        {"field": "campaign.name", "reason": "FIELD_REQUIRED", "text": "Give the campaign a name."}
    ]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (OutreachError("ACTION_NOT_ALLOWED", "Not now."), ExitCode.REFUSED),
        (OutreachError("INVALID_REQUEST", "Bad id."), ExitCode.USAGE),
        (OutreachError("CAMPAIGN_NOT_FOUND", "Not there."), ExitCode.NOT_FOUND),
        (OutreachError("ROLE_NOT_ALLOWED", "Not you."), ExitCode.NOT_PERMITTED),
        (OutreachError("INTERNAL", "Our fault."), ExitCode.FAULT),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ExitCode.UNAVAILABLE),
    ],
)
async def test_a_refusal_is_an_exit_code(
    api: ScriptedApi, cli: Cli, failure: OutreachError | grpc.StatusCode, code: ExitCode
) -> None:
    api.failures = [failure]
    ended = await cli("campaign", "show", CAMPAIGN_ID)
    assert ended.code == code
    assert ended.err.startswith("Error: ")


async def test_a_busy_channel_names_the_campaign_that_holds_it(api: ScriptedApi, cli: Cli) -> None:
    busy = {"running_campaign_id": "another"}
    api.failures = [OutreachError("CHANNEL_BUSY", "Another one is running.", metadata=busy)]
    ended = await cli("campaign", "show", CAMPAIGN_ID)
    assert "running_campaign_id: another" in ended.err
    assert "outreach campaign watch" in ended.err


async def test_without_a_key_or_a_service(cli: Cli) -> None:
    ended = await cli("campaign", "list", env={"OUTREACH_API_KEY": ""})
    assert (ended.code, "--api-key" in ended.err) == (ExitCode.NOT_PERMITTED, True)
    ended = await cli("campaign", "list", env={"OUTREACH_API_KEY": "pasted\nwith a break"})
    assert (ended.code, "line break" in ended.err) == (ExitCode.NOT_PERMITTED, True)
    ended = await cli("campaign", "list", "--address", "127.0.0.1:1")
    assert (ended.code, "outreach up" in ended.err) == (ExitCode.UNAVAILABLE, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["campaign", "create"],
        ["campaign", "show"],
        ["campaign", "list", "--status", "bogus"],
        ["campaign", "create", "--name", "x", "--missing", "explode"],
        ["campaign", "create", "--name", "x", "--body", "a", "--body-file", __file__],
        ["campaign", "preview", "x", "--contact", "1", "--set", "a=b"],
        ["campaign", "preview", "x", "--set", "a"],
        ["campaign", "test-send", "x"],
        ["campaign", "test-send", "x", "--to", "+14155550100", "--set", "a"],
        ["contacts", "upload", "x", "no-such-file.csv"],
        ["contacts", "upload", "x", __file__, "--column", "phone"],
        ["messages", "list", "x", "--reason", "bogus"],
        ["up", "--port", "campaign-1=x"],
        ["no-such-command"],
    ],
)
async def test_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    ended = await cli(*arguments)
    assert ended.code == ExitCode.USAGE
    assert ended.out == ""
    assert "Error" in ended.err


async def test_list_stops_at_its_limit(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("campaign", "list", "--limit", "3", "--status", "in-progress", "--json")
    assert [campaign["name"] for campaign in ended.data["campaigns"]] == ["n0", "n1", "n0"]
    statuses = [campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS]
    assert list(api.requests[0].filter.statuses) == statuses
    assert (await cli("campaign", "list", "--limit", "0")).out.count("n0") == 3


async def test_show_prints_what_was_written_as_it_is(cli: Cli) -> None:
    ended = await cli("campaign", "show", CAMPAIGN_ID)
    assert "Autumn [sale]" in ended.out
    assert "READY" in ended.out


async def test_upload_imports_and_shows_problems(
    api: ScriptedApi, cli: Cli, csv_path: Path
) -> None:
    ended = await cli(
        *("contacts", "upload", CAMPAIGN_ID, str(csv_path), "--consent", "--keep-duplicates"),
        *("--column", "mobile=destination", "--no-header"),
    )
    assert ended.code == ExitCode.OK, ended.err
    assert api.file == CSV
    upload, imported = api.requests
    assert upload.header.consent_confirmed
    assert not upload.header.has_header
    assert upload.header.HasField("has_header")
    assert imported.upload_id == "upload-1"
    assert imported.keep_duplicates
    destination = [
        column.name
        for column in imported.mapping.columns
        if column.role == campaign_pb2.COLUMN_ROLE_DESTINATION
    ]
    assert destination == ["mobile"]
    assert "3 imported of 4 rows" in ended.out
    assert "ROW_INVALID_RECIPIENT" in ended.out
    assert "Ada [x]" in ended.out


async def test_upload_without_consent_sends_nothing(
    api: ScriptedApi, cli: Cli, csv_path: Path
) -> None:
    ended = await cli("contacts", "upload", CAMPAIGN_ID, str(csv_path), "--json")
    assert ended.code == ExitCode.REFUSED
    assert ended.data["error"]["reason"] == "CONSENT_NOT_CONFIRMED"
    assert api.requests == []


async def test_upload_as_json_is_one_document(cli: Cli, csv_path: Path) -> None:
    ended = await cli("contacts", "upload", CAMPAIGN_ID, str(csv_path), "--consent", "--json")
    assert ended.data["upload"]["id"] == "upload-1"
    assert ended.data["campaign"]["contacts"]["imported"] == 3
    assert ended.data["problems"][0]["row"] == 3


async def test_problems_as_a_list_or_a_file(cli: Cli, tmp_path: Path) -> None:
    ended = await cli("contacts", "problems", CAMPAIGN_ID, "--json")
    assert [problem["row"] for problem in ended.data["problems"]] == [3, 3]
    path = tmp_path / "problems.csv"
    ended = await cli("contacts", "problems", CAMPAIGN_ID, "-o", str(path))
    assert ended.code == ExitCode.OK
    assert path.read_bytes().startswith(b"row,column,reason")


async def test_run_needs_the_disclaimer(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("campaign", "run", CAMPAIGN_ID)
    assert ended.code == ExitCode.REFUSED
    assert "--accept-disclaimer" in ended.err
    assert [type(request).__name__ for request in api.requests] == ["GetDisclaimerRequest"]


async def test_run_gives_the_accepted_version(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("campaign", "run", CAMPAIGN_ID, "--accept-disclaimer", "--etag", "e")
    assert ended.code == ExitCode.OK
    assert api.requests[1].accepted_disclaimer_version == "v1"
    assert api.requests[1].etag == "e"


@pytest.mark.parametrize(("failed", "code"), [(0, ExitCode.OK), (1, ExitCode.ENDED_WITH_ERRORS)])
async def test_run_and_wait_ends_as_the_campaign_ended(
    api: ScriptedApi, cli: Cli, failed: int, code: ExitCode
) -> None:
    script_run(api, failed=failed)
    api.cut_every = 2
    ended = await cli("campaign", "run", CAMPAIGN_ID, "--accept-disclaimer", "--wait")
    assert ended.code == code
    assert "3 of 3 final" in ended.err
    assert "COMPLETE" in ended.out
    assert ("failed" in ended.out) == bool(failed)


async def test_watch_as_json_is_a_line_a_response(api: ScriptedApi, cli: Cli) -> None:
    script_run(api)
    ended = await cli("campaign", "watch", CAMPAIGN_ID, "--messages", "--json")
    assert ended.code == ExitCode.OK
    assert [line["revision"] for line in ended.lines] == ["1", "2", "3", "4", "5"]
    assert ended.lines[-1]["changes"]["status"] == "CAMPAIGN_STATUS_COMPLETE"
    assert api.requests[0].include_messages


async def test_ctrl_c_ends_a_watch(api: ScriptedApi, cli: Cli) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "campaign", "watch", CAMPAIGN_ID),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=cli.env,
    )
    await eventually(lambda: api.requests, what="the watch begins")
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"Traceback" not in err


async def test_a_test_send_is_a_table_of_recipients(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli(
        *("campaign", "test-send", CAMPAIGN_ID, "--to", "+14155550100", "--to", "+14155550101"),
        *("--set", "name=Ada=1", "--set", "city=Rome"),
    )
    assert ended.code == ExitCode.OK
    (request,) = api.requests
    assert list(request.recipients) == ["+14155550100", "+14155550101"]
    assert dict(request.values) == {"name": "Ada=1", "city": "Rome"}
    assert (request.campaign_id, request.validate_only) == (CAMPAIGN_ID, False)
    assert "+14155550100" in ended.out
    assert "SENT" in ended.out
    assert "outreach campaign test-show test-1" in ended.err


@pytest.mark.parametrize(
    ("statuses", "code", "told"),
    [
        ([S.MESSAGE_STATUS_SENT, S.MESSAGE_STATUS_OPTED_OUT], ExitCode.OK, "OPTED_OUT"),
        (
            [S.MESSAGE_STATUS_SENT, S.MESSAGE_STATUS_FAILED],
            ExitCode.ENDED_WITH_ERRORS,
            "UNREACHABLE",
        ),
        ([S.MESSAGE_STATUS_QUEUED], ExitCode.ENDED_WITH_ERRORS, "QUEUED"),
        ([S.MESSAGE_STATUS_SENDING], ExitCode.ENDED_WITH_ERRORS, "SENDING"),
    ],
)
@pytest.mark.parametrize("command", [["test-send", CAMPAIGN_ID, "--to", "x"], ["test-show", "t"]])
async def test_a_test_send_ends_as_its_messages_did(
    api: ScriptedApi,
    cli: Cli,
    command: list[str],
    statuses: list[message_pb2.MessageStatus.ValueType],
    code: ExitCode,
    told: str,
) -> None:
    api.test_statuses = statuses
    ended = await cli("campaign", *command)
    assert ended.code == code
    assert told in ended.out
    assert ("30003" in ended.out) == (told == "UNREACHABLE")
    ended = await cli("campaign", *command, "--json")
    assert ended.code == code
    assert len(ended.data["messages"]) == len(statuses)
    assert ended.err == ""


async def test_a_test_send_that_only_checks_shows_no_result(api: ScriptedApi, cli: Cli) -> None:
    api.test_statuses = [S.MESSAGE_STATUS_UNSPECIFIED]
    ended = await cli("campaign", "test-send", CAMPAIGN_ID, "--to", "+14155550100", "--check")
    assert ended.code == ExitCode.OK
    assert api.requests[0].validate_only
    assert ended.out == ""
    assert "nothing was sent" in ended.err


async def test_preview_and_estimate(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("campaign", "preview", CAMPAIGN_ID, "--set", "name=Ada=1")
    assert ended.out.strip() == "Hi Ada [1]"
    assert "city" in ended.err
    assert dict(api.requests[0].values.variables) == {"name": "Ada=1"}
    ended = await cli("campaign", "preview", CAMPAIGN_ID)
    assert api.requests[1].message_number == 1
    ended = await cli("campaign", "estimate", CAMPAIGN_ID)
    assert ended.code == ExitCode.OK
    assert "{{city}}: 2" in ended.out


async def test_messages_as_json_lines(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli(
        *("messages", "list", CAMPAIGN_ID, "--status", "delivered", "--limit", "3", "--json")
    )
    assert [line["number"] for line in ended.lines] == [1, 2, 3]
    table = await cli("messages", "list", CAMPAIGN_ID)
    assert table.out.count("DELIVERED") == 4


async def test_version(cli: Cli) -> None:
    assert set((await cli("version", "--json")).data) == {"outreach", "python", "grpc"}


@pytest.mark.parametrize(("answer", "accepted"), [(b"yes\n", True), (b"\n", False)])
async def test_at_a_terminal_the_disclaimer_is_shown_and_asked(
    api: ScriptedApi, cli: Cli, answer: bytes, accepted: bool
) -> None:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "campaign", "run", CAMPAIGN_ID),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**cli.env, "TERM": "xterm"},
    )
    os.close(slave)
    os.set_blocking(master, False)
    shown = b""

    def read() -> bytes:
        nonlocal shown
        with contextlib.suppress(OSError):  # nothing yet, or closed at the other end
            shown += os.read(master, 65_536)
        return shown

    try:
        await eventually(lambda: b"[y/N]" in read(), what="the question")
        os.write(master, answer)
        code = await process.wait()
        read()
    finally:
        os.close(master)
    for point in (b"1. one", b"2. two", b"3. three", b"4. four"):
        assert point in shown
    assert code == (ExitCode.OK if accepted else ExitCode.REFUSED)
    assert len(api.requests) == (2 if accepted else 1)


async def test_a_live_view_says_when_a_connection_was_lost(api: ScriptedApi, cli: Cli) -> None:
    script_run(api)
    api.cut_every = 1
    ended = await cli("campaign", "watch", CAMPAIGN_ID)
    assert ended.err.count("Connection lost") == 4
    assert ended.code == ExitCode.OK


async def _python(program: str, *arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "160"},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


_CTRL_C_WHILE_LOADING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from outreach.cli.app import main
main()
"""


async def test_ctrl_c_while_the_command_loads_is_no_traceback() -> None:
    ended = await _python(_CTRL_C_WHILE_LOADING, "version")
    assert (ended.code, ended.out, ended.err) == (ExitCode.INTERRUPTED, "", "")


_FAULT = """
from outreach.cli import app, session
def call(self, work): raise ZeroDivisionError("of the test")
session.Session.call = call
app.main()
"""


async def test_a_fault_of_the_program_is_a_document_too() -> None:
    ended = await _python(_FAULT, "campaign", "list", "--json")
    assert ended.code == ExitCode.FAULT
    assert set(ended.data["error"]) == {"status", "reason", "text", "metadata", "violations"}
    assert ended.data["error"]["reason"] == "PROGRAM_FAULT"
    assert "ZeroDivisionError: of the test" in ended.data["error"]["text"]
    assert "Traceback" not in ended.err
    ended = await _python(_FAULT, "campaign", "list")
    assert (ended.code, ended.out) == (ExitCode.FAULT, "")
    assert "ZeroDivisionError: of the test" in ended.err


async def test_a_column_that_the_file_lacks_is_named(
    api: ScriptedApi, cli: Cli, csv_path: Path
) -> None:
    upload = ("contacts", "upload", CAMPAIGN_ID, str(csv_path), "--consent")
    ended = await cli(*upload, "--column", "Mobil=destination", "--column", "mobile=skip")
    assert ended.code == ExitCode.USAGE
    assert 'The file has no column "Mobil". Its columns: "phone", "mobile"' in ended.err
    assert len(api.requests) == 1, "nothing was imported"


async def test_what_a_file_holds_does_not_command_the_terminal(api: ScriptedApi, cli: Cli) -> None:
    violation = Violation("campaign.name", "FIELD_INVALID", "Not \x1b[2J\u202ethis.")
    api.failures = [OutreachError.invalid(violation)]
    ended = await cli("campaign", "create", "--name", "x")
    assert "Not [2Jthis." in ended.err

"""`outreach export …` against the export service."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outreach.cli.exit_codes import ExitCode
from outreach.vocabulary import CampaignStatus, FailureReason, MessageStatus
from tests.cli_rig import Cli, Ended
from tests.export_rig import ExportRig, Stored, export_rig, rows_of


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[ExportRig]:
    async with export_rig(database_dsn) as rig:
        yield rig


async def _export(rig: ExportRig, *arguments: str) -> Ended:
    cli = Cli("127.0.0.1:9", rig.api_key)
    return await cli("export", *arguments, env={"OUTREACH_EXPORT_ADDRESS": rig.address})


async def test_messages_to_stdout_and_to_files(rig: ExportRig, tmp_path: Path) -> None:
    campaign = await rig.campaign(
        [
            Stored("+14155550101", ["=1"]),
            Stored("+14155550102", ["x"], MessageStatus.FAILED, FailureReason.UNREACHABLE),
        ],
        names=["name"],
        status=CampaignStatus.COMPLETE_WITH_ERRORS,
    )
    columns = ("--column", "variable.name", "--column", "status")
    ended = await _export(rig, "messages", campaign, *columns)
    assert ended.code == ExitCode.OK
    assert ended.out == 'variable.name,status\n"\'=1",DELIVERED\n"x",FAILED\n'.replace("\n", "\r\n")
    assert "2 rows" in ended.err
    path = tmp_path / "out.csv"
    told = await _export(
        rig, "messages", campaign, *columns, "--raw", "--status", "delivered", "-o", str(path),
        "--json",
    )  # fmt: skip
    assert path.read_bytes() == b'variable.name,status\r\n"=1",DELIVERED\r\n'
    assert told.data == {
        "path": str(path),
        "rows": 1,
        "size_bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    packed = tmp_path / "out.csv.gz"
    await _export(rig, "messages", campaign, "--reason", "unreachable", "--gzip", "-o", str(packed))
    rows = rows_of(gzip.decompress(packed.read_bytes()))
    assert [row[0] for row in rows] == ["number", "2"]
    assert sorted(tmp_path.iterdir()) == [path, packed]


async def test_campaigns(rig: ExportRig) -> None:
    campaign = await rig.campaign(name="Spring")
    await rig.campaign(name="Autumn")
    ended = await _export(rig, "campaigns", "--name", "spr", "--column", "id", "--column", "name")
    assert rows_of(ended.out.encode()) == [["id", "name"], [campaign, "Spring"]]


async def test_refusals_are_told_and_leave_no_file(rig: ExportRig, tmp_path: Path) -> None:
    campaign = await rig.campaign()
    path = str(tmp_path / "out.csv")
    for arguments, code, text in (
        (("messages", campaign, "--column", "nothing", "-o", path), ExitCode.USAGE, "columns[0]"),
        (
            ("messages", campaign[:-4] + "0000", "-o", path),
            ExitCode.NOT_FOUND,
            "CAMPAIGN_NOT_FOUND",
        ),
        (("messages", campaign, "--json"), ExitCode.USAGE, "FILE"),
        (("messages", campaign, "-o", str(tmp_path / "none" / "x")), ExitCode.USAGE, "--output"),
        (("messages", campaign, "--status", "lost"), ExitCode.USAGE, "--status"),
    ):
        ended = await _export(rig, *arguments)
        assert ended.code == code, ended.err
        assert text in ended.err
    assert list(tmp_path.iterdir()) == []


async def test_a_service_that_is_not_there(rig: ExportRig) -> None:
    cli = Cli("127.0.0.1:9", rig.api_key)
    ended = await cli("export", "campaigns", "--export-address", "127.0.0.1:9")
    assert ended.code == ExitCode.UNAVAILABLE

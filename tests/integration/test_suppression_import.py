"""Files of recipients that opted out: what is in them, what is refused, all or nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc.aio
import pytest

from outreach.v1 import suppression_pb2
from outreach.v1.channel_pb2 import CHANNEL_SMS
from outreach.vocabulary import Channel
from tests.campaign_service import Service, Tenant, campaign_service, refused
from tests.suppression_rig import EMAIL, SMS, add, erase, get, import_file, listed, opt_out, told

ROWS_MANY = 300_000


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


def number(n: int) -> str:
    return f"+1500555{n:04d}"


async def figures(tenant: Tenant, data: bytes, **header: Any) -> tuple[int, int, int, int]:
    """rows, added, known, invalid."""
    told = await import_file(tenant, data, **header)
    return told.rows, told.added, told.known, told.invalid


async def numbers(tenant: Tenant) -> set[str]:
    return {suppression.recipient for suppression in await listed(tenant)}


async def test_rows_are_added_known_or_invalid(service: Service) -> None:
    tenant, stranger = await service.tenant(), await service.tenant()
    before = await add(tenant, number(1))
    await told(service, opt_out(tenant, 1_000, recipient=number(2)))
    data = "name,Mobile\n" + "".join(
        f"x,{cell}\n"
        for cell in (
            number(1),
            number(2),
            number(3),
            number(4),
            number(3),
            "no number",
            "",
            "15005550005",
        )
    )
    assert await figures(tenant, (data + "x,y,z\n\n").encode()) == (9, 2, 3, 4)
    found = {each.recipient: each for each in await listed(tenant)}
    assert set(found) == {number(n) for n in range(1, 5)}
    assert found[number(1)] == before
    assert found[number(2)].event_time.seconds == 1_000
    assert found[number(3)].source == suppression_pb2.SUPPRESSION_SOURCE_OPERATOR
    assert await listed(stranger) == []
    assert await service.pool.fetchval("SELECT count(*) FROM contact") == 0
    assert await figures(tenant, data.encode()) == (8, 0, 5, 3)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (f"\ufeffphone;name\r\n{number(1)};Ann\r\n{number(2)};Zoë\r\n".encode(), {}),
        (f"phone;name\r\n{number(1)};Müller\r\n{number(2)};Weiß\r\n".encode("cp1252"), {}),
        (f"phone\tname\n{number(1)}\tAnn\n{number(2)}\tBen\n".encode("utf-16"), {}),
        (f"{number(1)}\n{number(2)}".encode(), {}),
        (f"{number(1)},a\n{number(2)},b\n".encode(), {"has_header": False}),
        (f"x,a\n{number(1)},b\n{number(2)},b\n".encode(), {"has_header": False}),
        (f"a,b\n{number(1)},{number(8)}\n{number(2)},{number(9)}\n".encode(), {"column": "a"}),
        (f"{number(8)},{number(1)}\n{number(9)},{number(2)}\n".encode(), {"column": "column_2"}),
    ],
    ids=["bom", "semicolons", "tabs", "one column", "headerless", "overruled", "named", "numbered"],
)
async def test_files_are_read_as_files_of_contacts_are(
    service: Service, data: bytes, header: dict[str, Any]
) -> None:
    tenant = await service.tenant()
    answer = await import_file(tenant, data, **header)
    assert answer.added == 2
    assert await numbers(tenant) == {number(1), number(2)}


async def test_emails_in_any_case_are_one(service: Service) -> None:
    tenant = await service.tenant()
    data = b"email\nAda@Example.com\nada@example.com\nbob@example.com\nno address\n"
    assert await figures(tenant, data, channel=EMAIL) == (4, 2, 1, 1)
    assert await numbers(tenant) == {"Ada@example.com", "bob@example.com"}
    assert (await get(tenant, "ADA@example.com", EMAIL)).recipient == "Ada@example.com"


@pytest.mark.parametrize(
    ("data", "header", "reason", "field"),
    [
        (b"PK\x03\x04rest", {}, "FILE_NOT_CSV", "file"),
        (b"phone\n+15005550001\n", {"file_name": "a.xlsx"}, "FILE_NOT_CSV", "header.file_name"),
        (b"", {}, "FILE_EMPTY", "file"),
        (b"phone,name\n", {}, "FILE_HEADER_ONLY", "file"),
        (b"phone\n" + b"+15005550001\n" * 200, {}, "FILE_TOO_LARGE", "chunk"),
        (b"phone\n+15005550001\n", {"size_bytes": 5_000}, "FILE_TOO_LARGE", "header.size_bytes"),
        (b"phone\n+15005550001\n", {"size_bytes": 500}, "FILE_TRUNCATED", "header.size_bytes"),
        (b'phone\n"+15005550001\n', {}, "FILE_MALFORMED", "file"),
        (b"phone\n" + b"+15005550001\n" * 21, {}, "TOO_MANY_ROWS", "file"),
        (b"phone\nx\ny\n", {}, "NO_VALID_ROWS", "chunk"),
        (b"a,b\nx,y\n", {}, "MAPPING_NO_DESTINATION", "header.column"),
        (b"a,b\n+15005550001,y\n", {"column": "c"}, "MAPPING_UNKNOWN_COLUMN", "header.column"),
        (b"a,a\n+15005550001,y\n", {"column": "a"}, "MAPPING_UNKNOWN_COLUMN", "header.column"),
        (b"1,2,3,4\n5,6,7,8\n", {}, "TOO_MANY_COLUMNS", "file"),
    ],
)
async def test_refused_files_add_nothing(
    database_dsn: str, data: bytes, header: dict[str, Any], reason: str, field: str
) -> None:
    async with campaign_service(
        database_dsn, contact_file_bytes_max=1_000, contact_rows_max=20, contact_columns_max=3
    ) as service:
        tenant = await service.tenant()
        kept = await add(tenant, number(7))
        async with refused(reason, (field, reason)):
            await import_file(tenant, data, **header)
        assert await listed(tenant) == [kept]


async def test_every_fault_of_the_header_is_told(service: Service) -> None:
    tenant = await service.tenant()
    async with refused(
        "INVALID_REQUEST",
        ("header.channel", "FIELD_INVALID"),
        ("header.column", "FIELD_TOO_LONG"),
        ("header.request_id", "FIELD_INVALID"),
    ):
        await import_file(tenant, b"", channel=7, column="x" * 201, request_id="x")  # type: ignore[arg-type] # on purpose

    async def no_header() -> AsyncIterator[suppression_pb2.ImportSuppressionsRequest]:
        yield suppression_pb2.ImportSuppressionsRequest(chunk=b"phone")

    async with refused("INVALID_REQUEST", ("header", "FIELD_REQUIRED")):
        await tenant.call(tenant.suppressions.ImportSuppressions, no_header())


async def test_a_request_id_is_of_one_file(service: Service) -> None:
    tenant = await service.tenant()
    request_id = str(uuid4())
    data = f"phone\n{number(1)}\n".encode()
    first = await import_file(tenant, data, request_id=request_id)
    assert await import_file(tenant, data, request_id=request_id) == first
    async with refused("REQUEST_ID_REUSED"):
        await import_file(tenant, data + b"\n", request_id=request_id)


async def test_a_call_that_is_broken_off_adds_nothing(service: Service) -> None:
    tenant = await service.tenant()
    call = tenant.suppressions.ImportSuppressions(metadata=tenant.metadata)
    header = suppression_pb2.SuppressionFileHeader(channel=CHANNEL_SMS, file_name="a.csv")
    await call.write(suppression_pb2.ImportSuppressionsRequest(header=header))
    await call.write(suppression_pb2.ImportSuppressionsRequest(chunk=b"phone\n+15005550001\n"))
    call.cancel()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await call
    # The next one is served, and finds nothing of it.
    assert await figures(tenant, f"phone\n{number(2)}\n".encode()) == (1, 1, 0, 0)
    assert await numbers(tenant) == {number(2)}


async def test_two_files_of_the_same_recipients_at_once(service: Service) -> None:
    tenant = await service.tenant()
    forth = [number(n) for n in range(2_000)]
    files = ["\n".join(["phone", *order]).encode() for order in (forth, forth[::-1])]
    answers = await asyncio.gather(*(import_file(tenant, data) for data in files))
    assert sum(answer.added for answer in answers) == 2_000
    assert sum(answer.known for answer in answers) == 2_000


async def test_an_erased_person_stays_erased(service: Service) -> None:
    tenant = await service.tenant()
    await erase(tenant, number(1))
    assert await figures(tenant, f"phone\n{number(1)}\n{number(2)}\n".encode()) == (2, 1, 1, 0)
    found = await get(tenant, number(1))
    assert (found.recipient, found.source) == ("", suppression_pb2.SUPPRESSION_SOURCE_ERASURE)


@pytest.mark.parametrize("channel", [SMS, EMAIL])
async def test_many_rows(service: Service, channel: Channel) -> None:
    tenant = await service.tenant()
    cells = (
        (f"+1500{n:07d}" for n in range(ROWS_MANY))
        if channel is SMS
        else (f"person{n}@example.org" for n in range(ROWS_MANY))
    )
    data = "\n".join(["to", *cells]).encode()
    assert await figures(tenant, data, channel=channel) == (ROWS_MANY, ROWS_MANY, 0, 0)
    assert await figures(tenant, data, channel=channel) == (ROWS_MANY, 0, ROWS_MANY, 0)

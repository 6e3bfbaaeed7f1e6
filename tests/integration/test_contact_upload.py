"""Uploading a file of contacts: what is found in it, what is refused, and that a refusal leaves nothing."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from outreach.client import OutreachClient
from outreach.client.errors import CallError
from outreach.rpc.errors import from_status
from outreach.v1 import campaign_pb2, contact_pb2
from services.campaign.contacts.errors import ContactLimits
from services.campaign.rpc import uploads as rpc
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases import csv_file
from tests.contact_rig import (
    ContactRig,
    add_organisation,
    chunk_frame,
    contact_rig,
    csv_of,
    header_frame,
    mapping,
    number,
)
from tests.waiting import eventually

_append = UploadSpool.append
DESTINATION, VARIABLE, IGNORED = 1, 2, 3
LIMITS = ContactLimits(rows_max=100, file_bytes_max=1_000_000, columns_max=5, field_bytes_max=100)


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[ContactRig]:
    async with contact_rig(database_dsn, LIMITS) as rig:
        yield rig


async def refused(rig: ContactRig, call: Any) -> CallError:
    """The refusal, having checked that everything stored is as before."""
    before = await rig.state()
    with pytest.raises(CallError) as caught:
        await call
    assert await rig.state() == before
    return caught.value


async def test_tells_what_is_in_the_file(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    data = csv_of(f"{number(1)};Zoë", f"{number(2)};Max", header="Phone;First name")
    upload = await rig.client.upload_contacts(campaign_id, data, consent_confirmed=True)
    assert upload.campaign_id == campaign_id
    assert [column.name for column in upload.columns] == ["Phone", "First name"]
    assert [column.suggested_role for column in upload.columns] == [DESTINATION, VARIABLE]
    assert upload.columns[1].suggested_variable_name == "First_name"
    assert [list(row.values) for row in upload.sample_rows] == [
        [number(1), "Zoë"],
        [number(2), "Max"],
    ]
    assert (upload.encoding, upload.encoding_guessed) == ("utf-8", False)
    assert (upload.delimiter, upload.has_header) == (";", True)
    assert upload.size_bytes == len(data)
    row = await rig.pool.fetchrow("SELECT * FROM upload")
    assert row is not None
    assert (str(row["id"]), row["consent_by"]) == (upload.id, "ann")
    assert await rig.pool.fetchval("SELECT data FROM upload_chunk") == data


async def test_keeps_large_files_byte_for_byte(rig: ContactRig) -> None:
    async with contact_rig(rig.dsn) as roomy:
        campaign_id = await roomy.campaign()
        data = csv_of(*(f'{number(n)},"a ""quoted"", é\nvalue"' for n in range(90_000)))
        assert len(data) > 3 * 1024 * 1024
        upload = await roomy.client.upload_contacts(campaign_id, data, consent_confirmed=True)
        assert upload.size_bytes == len(data)
        chunks = await roomy.pool.fetch("SELECT data FROM upload_chunk ORDER BY ordinal")
        assert b"".join(row["data"] for row in chunks) == data
        assert {len(row["data"]) for row in chunks[:-1]} == {1024 * 1024}


async def test_windows_1252_is_a_reported_guess(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    names = ["Müller", "Weiß", "Grün", "Jäger", "Schröder", "Köhler", "Großmann", "Übel"]
    data = "\r\n".join(["phone,name"] + [f"{number(n)},{name}" for n, name in enumerate(names)])
    upload = await rig.client.upload_contacts(
        campaign_id, data.encode("cp1252"), consent_confirmed=True
    )
    assert (upload.encoding, upload.encoding_guessed) == ("windows-1252", True)
    assert upload.sample_rows[0].values[1] == "Müller"


async def test_file_without_header_and_header_overruled(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    data = f"{number(1)},Ann\n{number(2)},Ben\n".encode()
    upload = await rig.client.upload_contacts(campaign_id, data, consent_confirmed=True)
    assert not upload.has_header
    assert [column.name for column in upload.columns] == ["column_1", "column_2"]
    upload = await rig.client.upload_contacts(
        campaign_id, data, consent_confirmed=True, has_header=True
    )
    assert upload.has_header
    assert [column.name for column in upload.columns] == [number(1), "Ann"]


async def test_new_upload_replaces_the_earlier(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    first = await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann"))
    second = await rig.uploaded(campaign_id, csv_of(f"{number(2)},Ben"))
    assert [str(row["id"]) for row in await rig.pool.fetch("SELECT id FROM upload")] == [second]
    assert await rig.pool.fetchval("SELECT count(*) FROM upload_chunk") == 1
    with pytest.raises(CallError) as caught:
        await rig.client.import_contacts(campaign_id, first)
    assert (caught.value.code, caught.value.reason) == (
        grpc.StatusCode.NOT_FOUND,
        "UPLOAD_NOT_FOUND",
    )


async def test_without_consent_not_a_byte_is_read(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    sent: list[int] = []

    async def frames() -> AsyncIterator[contact_pb2.UploadContactsRequest]:
        # Everything else is wrong too: consent comes first.
        yield header_frame("no id", consent_confirmed=False, file_name="contacts.xlsx")
        await ended.wait()
        sent.append(1)

    ended = asyncio.Event()
    before = await rig.state()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.contacts.UploadContacts(frames(), metadata=rig.metadata)
    ended.set()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    error = from_status(caught.value)
    assert error.reason == "CONSENT_NOT_CONFIRMED"
    assert error.violations[0].field == "header.consent_confirmed"
    assert await rig.state() == before
    assert campaign_id


def zip_file() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return data.getvalue()


LATIN = "\n".join(["phone,name"] + [f"{number(n)},Name {n}" for n in range(3)]).encode()

BAD_FILES = {
    "a spreadsheet renamed": (zip_file(), "FILE_NOT_CSV", "file"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" * 9, "FILE_NOT_CSV", "file"),
    "NUL bytes": (b"phone,name\n" + number(1).encode() + b",A\0nn\n", "FILE_NOT_CSV", "file"),
    "empty": (b"", "FILE_EMPTY", "file"),
    "blank": (b"\xef\xbb\xbf \r\n\r\n", "FILE_EMPTY", "file"),
    "header only": (b"phone,name\n", "FILE_HEADER_ONLY", "file"),
    "too many columns": (b"a,b,c,d,e,phone\n1,2,3,4,5,+447700900001\n", "TOO_MANY_COLUMNS", "file"),
    "unclosed quote": (
        b'phone,name\n+447700900001,"Ann\n+447700900002,Ben\n',
        "FILE_MALFORMED",
        "file",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
async def test_bad_file(rig: ContactRig, case: str) -> None:
    data, reason, field = BAD_FILES[case]
    campaign_id = await rig.campaign()
    await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann"))
    error = await refused(
        rig, rig.client.upload_contacts(campaign_id, data, consent_confirmed=True)
    )
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == reason
    assert [violation.field for violation in error.violations] == [field]


BAD_MAPPINGS = {
    "no destination": (
        [("phone", VARIABLE, "phone"), ("name", VARIABLE, "name")],
        "MAPPING_NO_DESTINATION",
        "header.mapping.columns",
    ),
    "two destinations": (
        [("phone", DESTINATION, ""), ("name", DESTINATION, "")],
        "MAPPING_SEVERAL_DESTINATIONS",
        "header.mapping.columns[1].role",
    ),
    "unknown column": (
        [("phone", DESTINATION, ""), ("nome", VARIABLE, "name")],
        "MAPPING_UNKNOWN_COLUMN",
        "header.mapping.columns[1].name",
    ),
    "one column twice": (
        [("phone", DESTINATION, ""), ("phone", VARIABLE, "phone")],
        "MAPPING_DUPLICATE_COLUMN",
        "header.mapping.columns[1].name",
    ),
    "invalid variable name": (
        [("phone", DESTINATION, ""), ("name", VARIABLE, "first name")],
        "VARIABLE_NAME_INVALID",
        "header.mapping.columns[1].variable_name",
    ),
    "no role": (
        [("phone", DESTINATION, ""), ("name", 0, "")],
        "INVALID_REQUEST",
        "header.mapping.columns[1].role",
    ),
}


@pytest.mark.parametrize("case", BAD_MAPPINGS)
async def test_bad_mapping_in_the_header(rig: ContactRig, case: str) -> None:
    columns, reason, field = BAD_MAPPINGS[case]
    campaign_id = await rig.campaign()
    call = rig.client.upload_contacts(
        campaign_id,
        csv_of(f"{number(1)},Ann"),
        consent_confirmed=True,
        mapping=mapping(*columns),
    )
    error = await refused(rig, call)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert [violation.field for violation in error.violations] == [field]


async def test_bad_mapping_is_told_before_the_file_is_in(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    more = asyncio.Event()

    async def frames() -> AsyncIterator[contact_pb2.UploadContactsRequest]:
        yield header_frame(campaign_id, mapping=mapping(("nome", DESTINATION, "")))
        data = csv_of(*(f"{number(n)},Name {n}" for n in range(12_000)))
        for start in range(0, 256 * 1024, 64 * 1024):
            yield chunk_frame(data[start : start + 64 * 1024])
        await more.wait()  # the rest never comes

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.contacts.UploadContacts(frames(), metadata=rig.metadata)
    more.set()
    assert from_status(caught.value).reason == "MAPPING_UNKNOWN_COLUMN"


async def test_over_the_size_limit(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    line = f"{number(1)},Ann\n".encode()
    data = b"phone,name\n" + line * (LIMITS.file_bytes_max // len(line) + 1)
    error = await refused(
        rig, rig.client.upload_contacts(campaign_id, data, consent_confirmed=True)
    )
    assert (error.reason, error.violations[0].field) == ("FILE_TOO_LARGE", "header.size_bytes")
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    call = rig.client.upload_contacts(campaign_id, pieces(), consent_confirmed=True)
    error = await refused(rig, call)
    assert (error.reason, error.violations[0].field) == ("FILE_TOO_LARGE", "chunk")
    assert error.metadata["bytes_max"] == "1000000"


Frames = Callable[[str], list[contact_pb2.UploadContactsRequest]]
BAD_FRAMES: dict[str, tuple[Frames, str, str, str]] = {
    "no frame": (lambda _: [], "INVALID_REQUEST", "header", "FIELD_REQUIRED"),
    "chunk first": (
        lambda _: [chunk_frame(LATIN)],
        "INVALID_REQUEST",
        "header",
        "FIELD_REQUIRED",
    ),
    "empty frame": (
        lambda c: [header_frame(c), contact_pb2.UploadContactsRequest()],
        "INVALID_REQUEST",
        "chunk",
        "FIELD_REQUIRED",
    ),
    "header twice": (
        lambda c: [header_frame(c), header_frame(c)],
        "INVALID_REQUEST",
        "chunk",
        "FIELD_REQUIRED",
    ),
    "large chunk": (
        lambda c: [header_frame(c), chunk_frame(b"a" * (64 * 1024 + 1))],
        "INVALID_REQUEST",
        "chunk",
        "FIELD_TOO_LONG",
    ),
    "wrong name": (
        lambda c: [header_frame(c, file_name="contacts.xlsx"), chunk_frame(LATIN)],
        "FILE_NOT_CSV",
        "header.file_name",
        "FILE_NOT_CSV",
    ),
    "no name": (
        lambda c: [header_frame(c, file_name=""), chunk_frame(LATIN)],
        "FILE_NOT_CSV",
        "header.file_name",
        "FILE_NOT_CSV",
    ),
    "malformed id": (
        lambda _: [header_frame("42"), chunk_frame(LATIN)],
        "INVALID_REQUEST",
        "header.campaign_id",
        "FIELD_INVALID",
    ),
    "no id": (
        lambda _: [header_frame(""), chunk_frame(LATIN)],
        "INVALID_REQUEST",
        "header.campaign_id",
        "FIELD_REQUIRED",
    ),
    "negative size": (
        lambda c: [header_frame(c, size_bytes=-1), chunk_frame(LATIN)],
        "INVALID_REQUEST",
        "header.size_bytes",
        "FIELD_OUT_OF_RANGE",
    ),
    "ends short": (
        lambda c: [header_frame(c, size_bytes=len(LATIN) + 1), chunk_frame(LATIN)],
        "FILE_TRUNCATED",
        "header.size_bytes",
        "FILE_TRUNCATED",
    ),
    "ends without a byte": (
        lambda c: [header_frame(c, size_bytes=10)],
        "FILE_TRUNCATED",
        "header.size_bytes",
        "FILE_TRUNCATED",
    ),
    "goes on": (
        lambda c: [header_frame(c, size_bytes=len(LATIN) - 1), chunk_frame(LATIN)],
        "INVALID_REQUEST",
        "header.size_bytes",
        "FIELD_INVALID",
    ),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
async def test_bad_frames(rig: ContactRig, case: str) -> None:
    make, reason, field, violation = BAD_FRAMES[case]
    campaign_id = await rig.campaign()
    before = await rig.state()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.send_frames(make(campaign_id))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_status(caught.value)
    assert error.reason == reason
    assert [(v.field, v.reason) for v in error.violations] == [(field, violation)]
    assert await rig.state() == before


async def test_unknown_campaign_and_another_organisations(rig: ContactRig) -> None:
    data = csv_of(f"{number(1)},Ann")
    call = rig.client.upload_contacts(str(uuid4()), data, consent_confirmed=True)
    error = await refused(rig, call)
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")
    campaign_id = await rig.campaign()
    async with OutreachClient(rig.address, await add_organisation(rig.pool)) as stranger:
        call = stranger.upload_contacts(campaign_id, data, consent_confirmed=True)
        error = await refused(rig, call)
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")


async def test_after_the_import_no_more(rig: ContactRig) -> None:
    result = await rig.imported(csv_of(f"{number(1)},Ann"))
    assert result.campaign.status == campaign_pb2.CAMPAIGN_STATUS_READY
    call = rig.client.upload_contacts(
        result.campaign.id, csv_of(f"{number(2)},Ben"), consent_confirmed=True
    )
    error = await refused(rig, call)
    assert (error.code, error.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ACTION_NOT_ALLOWED",
    )
    assert error.metadata["action"] == "IMPORT_CONTACTS"
    assert error.metadata["why"] == "CONTACTS_IMPORTED"


async def test_broken_off_uploads_leave_nothing(
    rig: ContactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC ends the stream of a cancelled upload like that of a complete one."""
    campaign_id = await rig.campaign()
    before = await rig.state()
    taken_in, ended = 0, []

    async def append(self: UploadSpool, chunk: bytes) -> None:
        nonlocal taken_in
        await _append(self, chunk)
        taken_in += 1

    monkeypatch.setattr(UploadSpool, "append", append)
    # So small a file is looked at when it is complete.
    monkeypatch.setattr(csv_file, "detect_layout", lambda *_, **__: ended.append(1))
    for round_ in range(30):

        async def frames() -> AsyncIterator[contact_pb2.UploadContactsRequest]:
            # The size is not announced: nothing but the end tells that the file is complete.
            yield header_frame(campaign_id)
            yield chunk_frame(LATIN)
            await asyncio.Event().wait()

        call = rig.contacts.UploadContacts(frames(), metadata=rig.metadata)
        answer = asyncio.ensure_future(call)
        await eventually(lambda: taken_in > round_)  # noqa: B023 - asked at once
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
    await eventually(lambda: _idle(rig), what="connections given back")
    assert not ended
    assert await rig.state() == before


async def test_lost_connections_leave_nothing(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    before = await rig.state()
    for _ in range(10):
        client = OutreachClient(rig.address, rig.api_key)
        sent = asyncio.Event()

        async def pieces(sent: asyncio.Event = sent) -> AsyncIterator[bytes]:
            yield LATIN
            sent.set()
            await asyncio.Event().wait()

        call = asyncio.create_task(
            client.upload_contacts(campaign_id, pieces(), consent_confirmed=True)
        )
        await sent.wait()
        await client.close()
        await asyncio.wait({call}, timeout=60)
        assert call.done()
        assert call.cancelled() or call.exception() is not None
    await eventually(lambda: _idle(rig), what="connections given back")
    assert await rig.state() == before


async def test_silent_upload_is_given_up(rig: ContactRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "UPLOAD_IDLE_SECONDS_MAX", 0.2)
    campaign_id = await rig.campaign()
    before = await rig.state()

    async def frames() -> AsyncIterator[contact_pb2.UploadContactsRequest]:
        yield header_frame(campaign_id)
        yield chunk_frame(LATIN)
        await asyncio.Event().wait()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.contacts.UploadContacts(frames(), metadata=rig.metadata)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert from_status(caught.value).reason == "DEADLINE_EXCEEDED"
    assert await rig.state() == before


def _idle(rig: ContactRig) -> bool:
    return rig.pool.get_idle_size() == rig.pool.get_size()

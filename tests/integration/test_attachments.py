"""Attachments added, listed and taken off; what is refused, and that a refusal leaves nothing."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import grpc
import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from outreach.client import CallError, OutreachClient
from outreach.rpc.errors import from_status
from outreach.v1 import attachment_pb2, campaign_pb2
from outreach.vocabulary import CampaignStatus
from services.campaign.domain.attachments import ATTACHMENTS_MAX
from tests import attachment_files as files
from tests.attachment_rig import AttachmentRig, attachment_rig, chunk_frame, header_frame

MIB = 1024 * 1024
INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
TEXT = b"Dear all,\r\nwe open at nine.\r\n"


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[AttachmentRig]:
    async with attachment_rig(database_dsn) as rig:
        yield rig


@pytest.fixture
async def small_rig(database_dsn: str) -> AsyncIterator[AttachmentRig]:
    """A campaign's attachments have 1,000 bytes together at most."""
    async with attachment_rig(database_dsn, attachments_bytes_max=1_000) as rig:
        yield rig


def noise(size_bytes: int, seed: int = 1) -> bytes:
    """Bytes that are no kind of file."""
    return b"\x01" + random.Random(seed).randbytes(size_bytes - 1)


async def test_added_listed_and_stored(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    data = noise(2 * MIB + 123)
    first = await rig.client.upload_attachment(campaign_id, data, file_name="Preise 2026.PDF")
    assert UUID(first.id).version == 7
    assert first.campaign_id == campaign_id
    assert (first.file_name, first.content_type) == ("Preise 2026.PDF", "application/pdf")
    assert (first.size_bytes, first.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert first.create_time.seconds
    second = await rig.client.upload_attachment(
        campaign_id, TEXT, file_name="Preise 2026.PDF", content_type="Text/Plain"
    )
    assert second.content_type == "text/plain"
    listed = await rig.client.list_attachments(campaign_id)
    assert list(listed.attachments) == [first, second]
    assert listed.size_bytes == len(data) + len(TEXT)
    assert listed.size_bytes_max == 20 * MIB
    chunks = await rig.pool.fetch(
        "SELECT data FROM attachment_chunk WHERE attachment_id = $1 ORDER BY ordinal",
        UUID(first.id),
    )
    assert b"".join(row["data"] for row in chunks) == data
    assert [len(row["data"]) for row in chunks] == [MIB, MIB, 123]


@pytest.mark.parametrize("kind", ["docx", "zip", "text", "ole"])
async def test_harmless_files_are_taken(rig: AttachmentRig, kind: str) -> None:
    data = {
        "docx": files.word_document(),
        "zip": files.archive("a/setup.exe", "b.txt"),
        "text": b"@echo off\r\n",
        "ole": files.compound_file(files.WORD_97),
    }[kind]
    campaign_id = await rig.campaign()
    attachment = await rig.client.upload_attachment(campaign_id, data, file_name="a.docx")
    assert attachment.size_bytes == len(data)


async def test_the_content_hash_and_the_etag_follow_the_attachments(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()

    async def seen() -> tuple[str, str]:
        etag = (await rig.client.get_campaign(campaign_id)).etag
        return await rig.content_hash(campaign_id), etag

    states = [await seen()]
    first = await rig.client.upload_attachment(campaign_id, b"one", file_name="a.txt")
    states.append(await seen())
    await rig.client.upload_attachment(campaign_id, b"two", file_name="b.txt")
    states.append(await seen())
    await rig.client.delete_attachment(campaign_id, first.id)
    states.append(await seen())
    hashes, etags = zip(*states, strict=True)
    assert len(set(hashes)) == len(set(etags)) == 4
    # An edit of anything else keeps them in the hash.
    await rig.client.update_campaign(campaign_id, name="Another name")
    assert await rig.content_hash(campaign_id) == hashes[-1]
    # Without the change an update with the old etag would be accepted.
    with pytest.raises(CallError) as caught:
        await rig.client.update_campaign(campaign_id, name="x", etag=etags[-2])
    assert caught.value.reason == "ETAG_MISMATCH"


BLOCKED = {
    "program": ("setup.exe", TEXT, "extension", "header.file_name"),
    "double extension": ("invoice.pdf.scr", TEXT, "extension", "header.file_name"),
    "trailing dot": ("setup.exe.", TEXT, "extension", "header.file_name"),
    "renamed program": ("invoice.pdf", files.windows_program(), "content", "file"),
    "renamed Linux program": ("notes.txt", files.linux_program(), "content", "file"),
    "renamed macOS program": ("photo.jpg", files.macos_fat_program(), "content", "file"),
    "script": ("readme.txt", b"#!/bin/sh\nrm -rf ~\n", "content", "file"),
    "shortcut": ("photo.jpg", files.shortcut(), "content", "file"),
    "installer": (
        "letter.doc",
        files.compound_file(files.INSTALLER_PACKAGE, sector=5_000),
        "content",
        "file",
    ),
    "help": ("letter.doc", files.compiled_help(), "content", "file"),
    "JAR as a zip": ("data.zip", files.archive("META-INF/MANIFEST.MF"), "content", "file"),
}


@pytest.mark.parametrize("case", BLOCKED)
async def test_executables_are_refused(rig: AttachmentRig, case: str) -> None:
    name, data, rule, field = BLOCKED[case]
    campaign_id = await rig.campaign()
    error = await rig.refused(rig.client.upload_attachment(campaign_id, data, file_name=name))
    assert (error.code, error.reason) == (INVALID, "ATTACHMENT_TYPE_BLOCKED")
    assert error.metadata["rule"] == rule
    assert [(v.field, v.reason) for v in error.violations] == [(field, "ATTACHMENT_TYPE_BLOCKED")]


Frames = Callable[[str], list[attachment_pb2.UploadAttachmentRequest]]
BAD_FRAMES: dict[str, tuple[Frames, str, list[tuple[str, str]]]] = {
    "no frame": (lambda _: [], "INVALID_REQUEST", [("header", "FIELD_REQUIRED")]),
    "chunk first": (
        lambda _: [chunk_frame(TEXT)],
        "INVALID_REQUEST",
        [("header", "FIELD_REQUIRED")],
    ),
    "empty frame": (
        lambda c: [header_frame(c), attachment_pb2.UploadAttachmentRequest()],
        "INVALID_REQUEST",
        [("chunk", "FIELD_REQUIRED")],
    ),
    "large chunk": (
        lambda c: [header_frame(c), chunk_frame(b"a" * (64 * 1024 + 1))],
        "INVALID_REQUEST",
        [("chunk", "FIELD_TOO_LONG")],
    ),
    "everything in the header": (
        lambda _: [
            header_frame(
                "42",
                file_name="a/b\r\n",
                content_type="text/plain\r\nBcc: x@example.org",
                size_bytes=-1,
                sha256="abc",
                request_id="7",
            )
        ],
        "INVALID_REQUEST",
        [
            ("header.sha256", "FIELD_INVALID"),
            ("header.campaign_id", "FIELD_INVALID"),
            ("header.request_id", "FIELD_INVALID"),
            ("header.file_name", "FIELD_INVALID"),
            ("header.file_name", "FIELD_INVALID"),
            ("header.file_name", "FIELD_INVALID"),
            ("header.content_type", "FIELD_INVALID"),
            ("header.size_bytes", "FIELD_OUT_OF_RANGE"),
        ],
    ),
    "no name": (
        lambda c: [header_frame(c, file_name=""), chunk_frame(TEXT)],
        "INVALID_REQUEST",
        [("header.file_name", "FIELD_REQUIRED")],
    ),
    "blocked, and more is wrong": (
        lambda c: [header_frame(c, file_name="a.exe", content_type="x"), chunk_frame(TEXT)],
        "INVALID_REQUEST",
        [
            ("header.file_name", "ATTACHMENT_TYPE_BLOCKED"),
            ("header.content_type", "FIELD_INVALID"),
        ],
    ),
    "empty file": (lambda c: [header_frame(c)], "FILE_EMPTY", [("file", "FILE_EMPTY")]),
    "ends short": (
        lambda c: [header_frame(c, size_bytes=len(TEXT) + 1), chunk_frame(TEXT)],
        "FILE_TRUNCATED",
        [("header.size_bytes", "FILE_TRUNCATED")],
    ),
    "ends without a byte": (
        lambda c: [header_frame(c, size_bytes=10)],
        "FILE_TRUNCATED",
        [("header.size_bytes", "FILE_TRUNCATED")],
    ),
    "goes on": (
        lambda c: [header_frame(c, size_bytes=len(TEXT) - 1), chunk_frame(TEXT)],
        "INVALID_REQUEST",
        [("header.size_bytes", "FIELD_INVALID")],
    ),
    "another checksum": (
        lambda c: [
            header_frame(c, sha256=hashlib.sha256(b"x").hexdigest()),
            chunk_frame(TEXT),
        ],
        "ATTACHMENT_CHECKSUM_MISMATCH",
        [("header.sha256", "ATTACHMENT_CHECKSUM_MISMATCH")],
    ),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
async def test_bad_frames(rig: AttachmentRig, case: str) -> None:
    make, reason, violations = BAD_FRAMES[case]
    campaign_id = await rig.campaign()
    before = await rig.state()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.send_frames(make(campaign_id))
    error = from_status(caught.value)
    assert (caught.value.code(), error.reason) == (INVALID, reason)
    assert [(v.field, v.reason) for v in error.violations] == violations
    assert await rig.state() == before


async def test_the_right_checksum_in_any_case(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    digest = hashlib.sha256(TEXT).hexdigest()
    attachment = await rig.send_frames(
        [header_frame(campaign_id, sha256=digest.upper()), chunk_frame(TEXT)]
    )
    assert attachment.sha256 == digest


async def test_21_mb_announced_are_refused_before_a_byte_is_read(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    more = asyncio.Event()

    async def frames() -> AsyncIterator[attachment_pb2.UploadAttachmentRequest]:
        yield header_frame(campaign_id, size_bytes=21 * MIB)
        await more.wait()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.stub.UploadAttachment(frames(), metadata=rig.tenant.metadata)
    more.set()
    error = from_status(caught.value)
    assert (caught.value.code(), error.reason) == (INVALID, "ATTACHMENTS_TOO_LARGE")
    assert error.violations[0].field == "header.size_bytes"
    assert error.metadata["bytes_max"] == str(20 * MIB)
    assert error.metadata["bytes_used"] == "0"
    call = rig.client.upload_attachment(campaign_id, bytes(21 * MIB), file_name="a.bin")
    assert (await rig.refused(call)).reason == "ATTACHMENTS_TOO_LARGE"


async def test_21_mb_not_announced_are_refused(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    given = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal given
        while True:  # it ends only by being refused
            yield noise(MIB)
            given += 1

    # A refusal that meets a write may be lost (the client says so); it is told of the next one.
    for _ in range(20):
        call = rig.client.upload_attachment(campaign_id, pieces(), file_name="a.bin")
        error = await rig.refused(call)
        if error.reason != "UNAVAILABLE":
            break
    assert (error.code, error.reason) == (INVALID, "ATTACHMENTS_TOO_LARGE")
    assert error.violations[0].field == "chunk"
    assert given >= 20


async def test_several_files_together_are_over_the_limit(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    await rig.client.upload_attachment(campaign_id, noise(12 * MIB), file_name="a.bin")
    call = rig.client.upload_attachment(campaign_id, noise(9 * MIB), file_name="b.bin")
    error = await rig.refused(call)
    assert error.reason == "ATTACHMENTS_TOO_LARGE"
    assert error.metadata["bytes_used"] == str(12 * MIB)
    await rig.client.upload_attachment(campaign_id, noise(8 * MIB), file_name="c.bin")
    assert (await rig.client.list_attachments(campaign_id)).size_bytes == 20 * MIB
    call = rig.client.upload_attachment(campaign_id, b"x", file_name="d.bin")
    assert (await rig.refused(call)).reason == "ATTACHMENTS_TOO_LARGE"
    # What is left is another campaign's own.
    await rig.client.upload_attachment(await rig.campaign(), b"x", file_name="d.bin")


@pytest.mark.parametrize("announced", [True, False])
async def test_uploads_at_once_do_not_exceed_the_limit(
    small_rig: AttachmentRig, announced: bool
) -> None:
    rig = small_rig
    campaign_id = await rig.campaign()
    waiting, all_wait = 0, asyncio.Event()

    async def upload(number: int) -> str:
        async def pieces() -> AsyncIterator[bytes]:
            nonlocal waiting
            yield noise(200, number)
            waiting += 1
            if waiting == 10:
                all_wait.set()
            await all_wait.wait()  # all of them have been let in: nobody had stored anything yet
            yield noise(100, number)

        try:
            await rig.client.upload_attachment(
                campaign_id,
                pieces(),
                file_name=f"{number}.bin",
                size_bytes=300 if announced else None,
            )
        except CallError as error:
            return error.reason
        return "stored"

    ended = await asyncio.gather(*map(upload, range(10)))
    assert sorted(ended) == ["ATTACHMENTS_TOO_LARGE"] * 7 + ["stored"] * 3
    assert (await rig.client.list_attachments(campaign_id)).size_bytes == 900


async def test_so_many_that_a_list_of_them_would_not_fit(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    await rig.pool.execute(
        "INSERT INTO attachment (id, campaign_id, file_name, content_type, size_bytes, sha256)"
        " SELECT uuidv7(), $1, repeat('😀', 200), repeat('a', 255), 1, sha256(n::text::bytea)"
        " FROM generate_series(1, $2) AS n",
        UUID(campaign_id),
        ATTACHMENTS_MAX - 1,
    )
    await rig.client.upload_attachment(campaign_id, b"x", file_name="last.txt")
    assert len(await rig.names(campaign_id)) == ATTACHMENTS_MAX
    call = rig.client.upload_attachment(campaign_id, b"x", file_name="one more.txt")
    assert (await rig.refused(call)).reason == "ATTACHMENTS_TOO_LARGE"


STATUSES = [s for s in CampaignStatus if s not in (CampaignStatus.CREATED, CampaignStatus.READY)]


@pytest.mark.parametrize("status", STATUSES)
async def test_a_campaign_that_was_run_keeps_what_it_has(
    rig: AttachmentRig, status: CampaignStatus
) -> None:
    campaign_id = await rig.campaign()
    attachment = await rig.client.upload_attachment(campaign_id, TEXT, file_name="a.txt")
    await rig.set_status(campaign_id, status)
    for call in (
        rig.client.upload_attachment(campaign_id, TEXT, file_name="b.txt"),
        rig.client.delete_attachment(campaign_id, attachment.id),
    ):
        error = await rig.refused(call)
        assert (error.code, error.reason) == (PRECONDITION, "ACTION_NOT_ALLOWED")
        assert error.metadata["action"] == "UPDATE"
        assert error.metadata["status"] == status.name
        assert error.metadata["allowed_statuses"] == "CREATED,READY"
    assert await rig.names(campaign_id) == ["a.txt"]


async def test_run_while_a_file_comes_in(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()

    async def pieces() -> AsyncIterator[bytes]:
        yield TEXT
        await rig.set_status(campaign_id, CampaignStatus.IN_PROGRESS)
        yield TEXT

    with pytest.raises(CallError) as caught:
        await rig.client.upload_attachment(campaign_id, pieces(), file_name="a.txt")
    assert caught.value.reason == "ACTION_NOT_ALLOWED"
    assert await rig.names(campaign_id) == []


async def test_a_ready_campaign_takes_them(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    await rig.set_status(campaign_id, CampaignStatus.READY)
    attachment = await rig.client.upload_attachment(campaign_id, TEXT, file_name="a.txt")
    await rig.client.delete_attachment(campaign_id, attachment.id)
    campaign = await rig.client.get_campaign(campaign_id)
    assert campaign.status == campaign_pb2.CAMPAIGN_STATUS_READY


async def test_an_sms_campaign_has_none(rig: AttachmentRig) -> None:
    campaign_id = (await rig.tenant.create()).id
    for call in (
        rig.client.upload_attachment(campaign_id, TEXT, file_name="a.txt"),
        rig.client.delete_attachment(campaign_id, str(uuid4())),
    ):
        error = await rig.refused(call)
        assert (error.code, error.reason) == (PRECONDITION, "ACTION_NOT_ALLOWED")
        assert error.metadata["why"] == "CHANNEL"
    assert await rig.names(campaign_id) == []


async def test_unknown_campaigns_and_those_of_others(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    attachment = await rig.client.upload_attachment(campaign_id, TEXT, file_name="a.txt")
    stranger = await rig.service.tenant()
    async with OutreachClient(rig.service.public_address, stranger.key) as other:
        for client, target in ((other, campaign_id), (rig.client, str(uuid4()))):
            calls: list[Any] = [
                client.upload_attachment(target, TEXT, file_name="a.txt"),
                client.list_attachments(target),
                client.delete_attachment(target, attachment.id),
            ]
            for call in calls:
                error = await rig.refused(call)
                assert (error.code, error.reason) == (
                    grpc.StatusCode.NOT_FOUND,
                    "CAMPAIGN_NOT_FOUND",
                )


async def test_taken_off(rig: AttachmentRig) -> None:
    campaign_id, other_id = await rig.campaign(), await rig.campaign()
    first, second = [
        await rig.client.upload_attachment(campaign_id, noise(2 * MIB, n), file_name=f"{n}.bin")
        for n in (1, 2)
    ]
    # Not by way of another campaign.
    error = await rig.refused(rig.client.delete_attachment(other_id, first.id))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ATTACHMENT_NOT_FOUND")
    request_id = str(uuid4())
    await rig.client.delete_attachment(campaign_id, first.id, request_id=request_id)
    listed = await rig.client.list_attachments(campaign_id)
    assert list(listed.attachments) == [second]
    assert listed.size_bytes == 2 * MIB
    assert await rig.pool.fetchval("SELECT count(*) FROM attachment_chunk") == 2
    # Again: the same call is answered as before, another one finds nothing.
    before = await rig.state()
    await rig.client.delete_attachment(campaign_id, first.id, request_id=request_id)
    assert await rig.state() == before
    error = await rig.refused(rig.client.delete_attachment(campaign_id, first.id))
    assert error.reason == "ATTACHMENT_NOT_FOUND"
    error = await rig.refused(rig.client.delete_attachment(campaign_id, "42"))
    assert [violation.field for violation in error.violations] == ["id"]


async def test_they_go_with_their_campaign(rig: AttachmentRig) -> None:
    campaign_id = await rig.campaign()
    await rig.client.upload_attachment(campaign_id, TEXT, file_name="a.txt")
    await rig.pool.execute("DELETE FROM campaign WHERE id = $1", UUID(campaign_id))
    assert await rig.pool.fetchval("SELECT count(*) FROM attachment_chunk") == 0


async def test_the_same_request_is_done_once(small_rig: AttachmentRig) -> None:
    """Also when the file has taken all the room, and the campaign is running by now."""
    rig = small_rig
    campaign_id, request_id = await rig.campaign(), str(uuid4())
    data = noise(900)

    async def upload(**changes: Any) -> attachment_pb2.Attachment:
        asked: dict[str, Any] = {"file_name": "a.bin", "request_id": request_id, **changes}
        return await rig.client.upload_attachment(campaign_id, asked.pop("data", data), **asked)

    first = await upload()
    assert (await upload()).SerializeToString() == first.SerializeToString()
    await rig.set_status(campaign_id, CampaignStatus.IN_PROGRESS)
    before = await rig.state()
    assert await upload() == first
    assert await rig.state() == before
    for changes in (
        {"data": noise(900, 2)},
        {"file_name": "b.bin"},
        {"content_type": "text/plain"},
    ):
        error = await rig.refused(upload(**changes))
        assert (error.code, error.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "REQUEST_ID_REUSED",
        )
    error = await rig.refused(upload(data=noise(1_001)))
    assert error.reason == "ATTACHMENTS_TOO_LARGE"


async def test_the_same_request_several_times_at_once(small_rig: AttachmentRig) -> None:
    rig = small_rig
    campaign_id, request_id = await rig.campaign(), str(uuid4())
    answers = await asyncio.gather(
        *(
            rig.client.upload_attachment(
                campaign_id, noise(900), file_name="a.bin", request_id=request_id
            )
            for _ in range(8)
        )
    )
    assert len({answer.id for answer in answers}) == 1
    assert await rig.names(campaign_id) == ["a.bin"]


async def test_a_refused_request_may_be_put_right(rig: AttachmentRig) -> None:
    campaign_id, request_id = await rig.campaign(), str(uuid4())
    call = rig.client.upload_attachment(
        campaign_id, files.windows_program(), file_name="a.txt", request_id=request_id
    )
    await rig.refused(call)
    attachment = await rig.client.upload_attachment(
        campaign_id, TEXT, file_name="a.txt", request_id=request_id
    )
    assert attachment.size_bytes == len(TEXT)


async def test_an_update_meanwhile_loses_nothing(rig: AttachmentRig) -> None:
    """Edits and files change the same hash: whoever comes second has seen the first."""
    campaign_id = await rig.campaign()
    request = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(
            id=campaign_id, email=campaign_pb2.EmailContent(subject="New")
        ),
        update_mask=FieldMask(paths=["email.subject"]),
    )
    await asyncio.gather(
        rig.tenant.call(rig.tenant.campaigns.UpdateCampaign, request),
        *(
            rig.client.upload_attachment(campaign_id, noise(10, n), file_name=f"{n}.bin")
            for n in range(5)
        ),
    )
    seen = await rig.content_hash(campaign_id)
    await rig.client.update_campaign(campaign_id, description="The hash is made anew")
    assert await rig.content_hash(campaign_id) == seen

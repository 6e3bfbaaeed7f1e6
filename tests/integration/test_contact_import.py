"""Importing an uploaded file: contacts, messages, counts; all or nothing, once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import grpc
import psutil
import pytest

from outreach.client import OutreachClient
from outreach.client.errors import CallError
from outreach.recipients import recipient_hash
from outreach.v1 import campaign_pb2, contact_pb2, message_pb2
from outreach.vocabulary import Channel
from services.campaign.contacts.errors import ContactLimits
from services.campaign.contacts.importer import ImportBatch
from services.campaign.store import contacts as store
from services.campaign.usecases import import_contacts as usecase
from tests.campaign_data import RECIPIENT_KEY
from tests.contact_rig import (
    ContactRig,
    add_organisation,
    contact_rig,
    csv_of,
    mapping,
    number,
)
from tests.waiting import eventually

DESTINATION, VARIABLE, IGNORED = 1, 2, 3


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[ContactRig]:
    async with contact_rig(database_dsn) as rig:
        yield rig


async def refused(rig: ContactRig, call: Any) -> CallError:
    """The refusal, having checked that everything stored is as before."""
    before = await rig.state()
    with pytest.raises(CallError) as caught:
        await call
    assert await rig.state() == before
    return caught.value


async def contacts_of(rig: ContactRig) -> list[tuple[int, str, list[str | None]]]:
    rows = await rig.pool.fetch("SELECT number, recipient, variables FROM contact ORDER BY number")
    return [(row["number"], row["recipient"], row["variables"]) for row in rows]


async def test_contacts_messages_and_counts(rig: ContactRig) -> None:
    result = await rig.imported(
        csv_of(
            f"{number(1)},Ann",
            "no number,Ben",
            f"{number(3)},",
            f"{number(1)},Ann again",
            "",
            f"{number(4)},Dora,too many",
            ",Eve",
            f'{number(5)},"Fé\nbeneath"',
        )
    )
    campaign = result.campaign
    assert campaign.status == campaign_pb2.CAMPAIGN_STATUS_READY
    assert campaign_pb2.CAMPAIGN_ACTION_RUN in campaign.allowed_actions
    assert campaign_pb2.CAMPAIGN_ACTION_IMPORT_CONTACTS not in campaign.allowed_actions
    assert (campaign.counts.waiting, campaign.counts.total) == (3, 3)
    summary = campaign.contacts
    assert (summary.rows, summary.imported, summary.invalid, summary.duplicates) == (7, 3, 3, 1)
    assert summary.HasField("import_time")
    assert [(c.name, c.role, c.variable_name) for c in campaign.columns] == [
        ("phone", DESTINATION, ""),
        ("name", VARIABLE, "name"),
    ]
    assert [(p.row, p.column, p.reason) for p in result.problems] == [
        (3, "phone", "ROW_INVALID_RECIPIENT"),
        (5, "phone", "ROW_DUPLICATE"),
        (7, "", "ROW_RAGGED"),
        (8, "phone", "ROW_RECIPIENT_MISSING"),
    ]
    assert await contacts_of(rig) == [
        (1, number(1), ["Ann"]),
        (2, number(3), [None]),
        (3, number(5), ["Fé\nbeneath"]),
    ]
    hashes = await rig.pool.fetch("SELECT recipient_hash FROM contact ORDER BY number")
    assert hashes[0]["recipient_hash"] == recipient_hash(RECIPIENT_KEY, Channel.SMS, number(1))
    page = await rig.client.list_messages(campaign.id)
    assert [(m.number, m.recipient, dict(m.variables)) for m in page.messages] == [
        (1, number(1), {"name": "Ann"}),
        (2, number(3), {}),
        (3, number(5), {"name": "Fé\nbeneath"}),
    ]
    assert {m.status for m in page.messages} == {message_pb2.MESSAGE_STATUS_WAITING}
    # The raw file is deleted, and everybody who watches is told.
    assert await rig.pool.fetchval("SELECT count(*) FROM upload_chunk") == 0
    assert await rig.pool.fetchval("SELECT count(*) FROM upload") == 0
    # Who confirmed consent is not.
    consent = await rig.pool.fetchrow("SELECT consent_by, consent_time FROM campaign")
    assert consent is not None
    assert consent["consent_by"]
    assert consent["consent_time"] is not None
    assert rig.wakes.revisions == [campaign.revision]
    assert await rig.client.get_campaign(campaign.id) == campaign


async def test_template_is_checked_against_the_columns(rig: ContactRig) -> None:
    campaign_id = await rig.campaign("Hello {{name}} of {{city}}")
    before = await rig.client.get_campaign(campaign_id)
    upload_id = await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann"))
    campaign = (await rig.client.import_contacts(campaign_id, upload_id)).campaign
    assert campaign.status == campaign_pb2.CAMPAIGN_STATUS_CREATED
    assert [(p.field, p.reason) for p in campaign.template_problems] == [
        ("sms.body", "TEMPLATE_UNKNOWN_PLACEHOLDER")
    ]
    assert campaign.etag != before.etag
    assert campaign.revision == before.revision + 1


async def test_mapping_of_the_upload_and_of_the_import(rig: ContactRig) -> None:
    data = csv_of(f"{number(1)},Ann,Bath", header="phone,name,city")
    campaign_id = await rig.campaign("Hello {{who}}")
    upload_id = await rig.uploaded(
        campaign_id, data, mapping=mapping(("phone", DESTINATION, ""), ("name", VARIABLE, "who"))
    )
    await rig.client.import_contacts(campaign_id, upload_id)
    assert await contacts_of(rig) == [(1, number(1), ["Ann"])]

    await rig.pool.execute("TRUNCATE contact")
    campaign_id = await rig.campaign("Hello {{town}}")
    upload_id = await rig.uploaded(campaign_id, data, mapping=mapping(("phone", DESTINATION, "")))
    result = await rig.client.import_contacts(
        campaign_id,
        upload_id,
        mapping=mapping(
            ("city", VARIABLE, "town"), ("phone", DESTINATION, ""), ("name", IGNORED, "")
        ),
    )
    assert await contacts_of(rig) == [(1, number(1), ["Bath"])]
    assert [c.role for c in result.campaign.columns] == [DESTINATION, IGNORED, VARIABLE]


async def test_header_overruled_at_the_import(rig: ContactRig) -> None:
    campaign_id = await rig.campaign("Hello {{column_2}}")
    upload_id = await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann"))
    result = await rig.client.import_contacts(campaign_id, upload_id, has_header=False)
    assert [c.name for c in result.campaign.columns] == ["column_1", "column_2"]
    assert [(p.row, p.reason) for p in result.problems] == [(1, "ROW_INVALID_RECIPIENT")]
    assert result.campaign.contacts.rows == 2
    assert result.campaign.status == campaign_pb2.CAMPAIGN_STATUS_READY


async def test_other_encodings_and_line_ends(rig: ContactRig) -> None:
    names = ["Müller", "Weiß", "Grün", "Jäger", "Schröder", "Köhler", "Großmann", "Übel"]
    data = "\r\n".join(["phone;name"] + [f"{number(n)};{name}" for n, name in enumerate(names)])
    for encoding in ("cp1252", "utf-8-sig", "utf-16"):
        await rig.pool.execute("TRUNCATE contact")
        await rig.imported(data.encode(encoding))
        assert [variables for _, _, variables in await contacts_of(rig)] == [[n] for n in names]


async def test_values_across_the_boundaries_of_chunks(rig: ContactRig) -> None:
    names = [f'é"{n}"\r\n{"ü" * (n % 50)}' for n in range(20_000)]
    quoted = [name.replace('"', '""') for name in names]
    data = csv_of(*(f'{number(n)},"{name}"' for n, name in enumerate(quoted)))
    assert len(data) > 1024 * 1024
    result = await rig.imported(data)
    assert result.campaign.contacts.imported == 20_000
    assert [variables[0] for _, _, variables in await contacts_of(rig)] == names
    assert await rig.pool.fetchval(
        "SELECT count(*) FROM message WHERE status = 2 AND run = 0 AND attempt = 0"
    ) == len(names)


async def test_duplicates_kept_when_asked(rig: ContactRig) -> None:
    data = csv_of(f"{number(1)},Ann", f"{number(1)},Ann again")
    result = await rig.imported(data, keep_duplicates=True)
    assert (result.campaign.contacts.imported, result.campaign.contacts.duplicates) == (2, 0)
    assert [to for _, to, _ in await contacts_of(rig)] == [number(1), number(1)]


async def test_progress_then_one_result(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    data = csv_of(*(f"{number(n)},Name {n}" for n in range(30_000)))
    upload_id = await rig.uploaded(campaign_id, data)
    seen: list[contact_pb2.ImportProgress] = []
    result = await rig.client.import_contacts(campaign_id, upload_id, on_progress=seen.append)
    assert seen
    assert {progress.bytes_total for progress in seen} == {len(data)}
    figures = [(progress.bytes_read, progress.rows) for progress in seen]
    assert figures == sorted(figures)
    assert seen[-1].imported == result.campaign.contacts.imported == 30_000
    assert seen[-1].bytes_read == len(data)


BAD_IMPORTS = {
    "no destination": (
        [("phone", VARIABLE, "phone")],
        "MAPPING_NO_DESTINATION",
        "mapping.columns",
    ),
    "empty mapping": ([], "MAPPING_NO_DESTINATION", "mapping.columns"),
    "two destinations": (
        [("phone", DESTINATION, ""), ("name", DESTINATION, "")],
        "MAPPING_SEVERAL_DESTINATIONS",
        "mapping.columns[1].role",
    ),
    "unknown column": (
        [("phone", DESTINATION, ""), ("nome", VARIABLE, "name")],
        "MAPPING_UNKNOWN_COLUMN",
        "mapping.columns[1].name",
    ),
    "one column twice": (
        [("phone", DESTINATION, ""), ("phone", VARIABLE, "phone")],
        "MAPPING_DUPLICATE_COLUMN",
        "mapping.columns[1].name",
    ),
    "invalid variable name": (
        [("phone", DESTINATION, ""), ("name", VARIABLE, "1st")],
        "VARIABLE_NAME_INVALID",
        "mapping.columns[1].variable_name",
    ),
    "one variable name twice": (
        [("phone", DESTINATION, ""), ("name", VARIABLE, "a"), ("city", VARIABLE, "a")],
        "VARIABLE_NAME_DUPLICATE",
        "mapping.columns[2].variable_name",
    ),
    "no role": (
        [("phone", DESTINATION, ""), ("name", 0, "")],
        "INVALID_REQUEST",
        "mapping.columns[1].role",
    ),
    "unheard-of role": (
        [("phone", 77, "")],
        "INVALID_REQUEST",
        "mapping.columns[0].role",
    ),
}


@pytest.mark.parametrize("case", BAD_IMPORTS)
async def test_bad_mapping(rig: ContactRig, case: str) -> None:
    columns, reason, field = BAD_IMPORTS[case]
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(
        campaign_id, csv_of(f"{number(1)},Ann,Bath", header="phone,name,city")
    )
    call = rig.client.import_contacts(campaign_id, upload_id, mapping=mapping(*columns))
    error = await refused(rig, call)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert [violation.field for violation in error.violations] == [field]


async def test_every_fault_of_a_mapping_is_told(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann"))
    columns = mapping(("phone", VARIABLE, "a b"), ("nome", VARIABLE, "name"))
    error = await refused(rig, rig.client.import_contacts(campaign_id, upload_id, mapping=columns))
    assert {(v.field, v.reason) for v in error.violations} == {
        ("mapping.columns[1].name", "MAPPING_UNKNOWN_COLUMN"),
        ("mapping.columns", "MAPPING_NO_DESTINATION"),
        ("mapping.columns[0].variable_name", "VARIABLE_NAME_INVALID"),
    }


async def test_file_without_a_destination_needs_a_mapping(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of("x,Ann", "y,Ben", header="code,name"))
    error = await refused(rig, rig.client.import_contacts(campaign_id, upload_id))
    assert (error.reason, error.violations[0].field) == (
        "MAPPING_NO_DESTINATION",
        "mapping.columns",
    )


GOOD_ROWS = [f"{number(n)},Name {n}" for n in range(20_000)]
#: Faults beyond the part of the file that the upload looks at; by then contacts have been copied.
LATE_FAULTS = {
    "NUL bytes": ([*GOOD_ROWS, f"{number(30_000)},A\0nn"], "FILE_NOT_CSV"),
    "unclosed quote": ([*GOOD_ROWS, f'{number(30_000)},"Ann', *GOOD_ROWS], "FILE_MALFORMED"),
    "endless row": ([*GOOD_ROWS, "a," * 200_000], "FILE_MALFORMED"),
}


@pytest.mark.parametrize("case", LATE_FAULTS)
async def test_late_fault_leaves_nothing(rig: ContactRig, case: str) -> None:
    rows, reason = LATE_FAULTS[case]
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(*rows))
    error = await refused(rig, rig.client.import_contacts(campaign_id, upload_id))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert error.violations[0].field == "file"


async def test_too_many_rows_and_too_long_fields(database_dsn: str) -> None:
    limits = ContactLimits(rows_max=6_000, field_bytes_max=20)
    async with contact_rig(database_dsn, limits) as rig:
        campaign_id = await rig.campaign()
        rows = [f"{number(n)},Name {n}" for n in range(6_001)]
        upload_id = await rig.uploaded(campaign_id, csv_of(*rows))
        error = await refused(rig, rig.client.import_contacts(campaign_id, upload_id))
        assert (error.code, error.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "TOO_MANY_ROWS",
        )
        assert (error.violations[0].field, error.metadata["rows_max"]) == ("file", "6000")
        rows = [f"{number(1)},{'é' * 10}", f"{number(2)},{'é' * 11}"]
        upload_id = await rig.uploaded(campaign_id, csv_of(*rows))
        result = await rig.client.import_contacts(campaign_id, upload_id)
        assert [(p.row, p.column, p.reason) for p in result.problems] == [
            (3, "name", "ROW_FIELD_TOO_LONG")
        ]


async def test_no_valid_row(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of("+1,Ann", "x,Ben"))
    before = await rig.state()
    request_id = str(uuid4())
    for _ in range(2):  # again with the same request_id: the same answer
        with pytest.raises(CallError) as caught:
            await rig.client.import_contacts(
                campaign_id,
                upload_id,
                request_id=request_id,
                mapping=mapping(("phone", DESTINATION, "")),
            )
        error = caught.value
        assert (error.code, error.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "NO_VALID_ROWS",
        )
        assert error.violations[0].field == "upload_id"
    problems = await rig.client.list_contact_problems(campaign_id)
    assert [(p.row, p.reason) for p in problems.problems] == [
        (2, "ROW_INVALID_RECIPIENT"),
        (3, "ROW_INVALID_RECIPIENT"),
    ]
    after = await rig.state()
    del before["contact_problem"], after["contact_problem"]
    assert after == before
    campaign = await rig.client.get_campaign(campaign_id)
    assert campaign.status == campaign_pb2.CAMPAIGN_STATUS_CREATED
    # The file is still there for another try; its problems take the place of the earlier ones.
    with pytest.raises(CallError) as caught:
        await rig.client.import_contacts(
            campaign_id, upload_id, mapping=mapping(("", DESTINATION, "")), has_header=False
        )
    assert caught.value.reason == "NO_VALID_ROWS"
    problems = await rig.client.list_contact_problems(campaign_id)
    assert [p.row for p in problems.problems] == [1, 2, 3]


async def test_no_valid_row_then_a_good_file(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of("x,Ann", "y,Ben", "z,Cid"))
    with pytest.raises(CallError):
        await rig.client.import_contacts(
            campaign_id, upload_id, mapping=mapping(("phone", DESTINATION, ""))
        )
    upload_id = await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann", "y,Ben"))
    result = await rig.client.import_contacts(campaign_id, upload_id)
    assert result.campaign.contacts.imported == 1
    problems = await rig.client.list_contact_problems(campaign_id)
    assert [(p.row, p.reason) for p in problems.problems] == [(3, "ROW_INVALID_RECIPIENT")]


async def test_unknown_ids_and_another_organisation(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann"))
    other_campaign = await rig.campaign()
    error = await refused(rig, rig.client.import_contacts(other_campaign, upload_id))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")
    error = await refused(rig, rig.client.import_contacts(str(uuid4()), upload_id))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")
    error = await refused(rig, rig.client.import_contacts("42", "", request_id="x"))
    assert {(v.field, v.reason) for v in error.violations} == {
        ("campaign_id", "FIELD_INVALID"),
        ("upload_id", "FIELD_REQUIRED"),
        ("request_id", "FIELD_INVALID"),
    }
    async with OutreachClient(rig.address, await add_organisation(rig.pool)) as stranger:
        error = await refused(rig, stranger.import_contacts(campaign_id, upload_id))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")


async def test_import_twice(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann"))
    await rig.client.import_contacts(campaign_id, upload_id)
    error = await refused(rig, rig.client.import_contacts(campaign_id, upload_id))
    assert (error.code, error.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ACTION_NOT_ALLOWED",
    )
    assert error.metadata["why"] == "CONTACTS_IMPORTED"


async def test_repeated_request_gets_the_first_answer(rig: ContactRig) -> None:
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(f"{number(1)},Ann", "x,Ben"))
    request_id = str(uuid4())
    first = await rig.client.import_contacts(campaign_id, upload_id, request_id=request_id)
    before = await rig.state()
    again = await rig.client.import_contacts(campaign_id, upload_id, request_id=request_id)
    assert again == first
    assert again.problems
    assert await rig.state() == before
    call = rig.client.import_contacts(
        campaign_id, upload_id, request_id=request_id, keep_duplicates=True
    )
    error = await refused(rig, call)
    assert (error.code, error.reason) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )


class Gate:
    """Holds imports after their first batch, so that a test can act in the middle of one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.imports = 0

        async def copy_batch(connection: Any, campaign_id: UUID, batch: ImportBatch) -> None:
            await store.copy_batch(connection, campaign_id, batch)
            self.imports += batch.first_number == 1
            self.reached.set()
            await self.open.wait()

        monkeypatch.setattr(usecase, "copy_batch", copy_batch)


async def test_same_request_at_the_same_time_is_done_once(
    rig: ContactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(*GOOD_ROWS))
    request_id = str(uuid4())
    async with asyncio.TaskGroup() as tasks:
        calls = [
            tasks.create_task(
                rig.client.import_contacts(campaign_id, upload_id, request_id=request_id)
            )
            for _ in range(4)
        ]
        await gate.reached.wait()

        async def another_call_waits() -> bool:
            waiting: int = await rig.pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return waiting > 0

        await eventually(another_call_waits)
        gate.open.set()
    results = [call.result() for call in calls]
    assert results == [results[0]] * 4
    assert results[0].campaign.contacts.imported == len(GOOD_ROWS)
    assert await rig.pool.fetchval("SELECT count(*) FROM contact") == len(GOOD_ROWS)
    assert gate.imports == 1


async def test_in_the_middle_of_an_import(rig: ContactRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other imports and uploads are refused, nobody sees half of it, and edits go on."""
    gate = Gate(monkeypatch)
    campaign_id = await rig.campaign("Hello {{nickname}}")
    upload_id = await rig.uploaded(campaign_id, csv_of(*GOOD_ROWS))
    async with asyncio.TaskGroup() as tasks:
        importing = tasks.create_task(rig.client.import_contacts(campaign_id, upload_id))
        await gate.reached.wait()
        for call in (
            rig.client.import_contacts(campaign_id, upload_id),
            rig.client.upload_contacts(campaign_id, csv_of("x,y"), consent_confirmed=True),
        ):
            error = await refused(rig, call)
            assert (error.code, error.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "ACTION_NOT_ALLOWED",
            )
            assert error.metadata["why"] == "IMPORT_UNDER_WAY"
        assert (await rig.client.get_campaign(campaign_id)).counts.total == 0
        assert await contacts_of(rig) == []
        edited = await rig.client.update_campaign(
            campaign_id, sms=campaign_pb2.SmsContent(body="Hello {{name}}")
        )
        gate.open.set()
    campaign = importing.result().campaign
    assert campaign.sms.body == edited.sms.body == "Hello {{name}}"
    assert campaign.status == campaign_pb2.CAMPAIGN_STATUS_READY
    assert campaign.etag != edited.etag


async def test_cancelled_in_the_middle(rig: ContactRig, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(*GOOD_ROWS))
    before = await rig.state()
    importing = asyncio.create_task(rig.client.import_contacts(campaign_id, upload_id))
    await gate.reached.wait()
    assert _workers()
    importing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await importing
    await eventually(lambda: not _workers(), what="the worker is gone")
    await eventually(
        lambda: rig.pool.get_idle_size() == rig.pool.get_size(), what="connections given back"
    )
    assert await rig.state() == before
    # The file is there for another try.
    gate.open.set()
    result = await rig.client.import_contacts(campaign_id, upload_id)
    assert result.campaign.contacts.imported == len(GOOD_ROWS)


async def test_worker_killed_in_the_middle(
    rig: ContactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    campaign_id = await rig.campaign()
    # More than fits into pipes and buffers: the worker can't have finished when it is killed.
    rows = [f"{number(n)},{'long ' * 100}" for n in range(20_000)]
    upload_id = await rig.uploaded(campaign_id, csv_of(*rows))
    before = await rig.state()
    importing = asyncio.create_task(rig.client.import_contacts(campaign_id, upload_id))
    await gate.reached.wait()
    [worker] = _workers()
    worker.kill()
    gate.open.set()
    with pytest.raises(CallError) as caught:
        await importing
    assert caught.value.reason == "INTERNAL"
    assert await rig.state() == before
    result = await rig.client.import_contacts(campaign_id, upload_id)
    assert result.campaign.contacts.imported == len(rows)


async def test_database_connection_lost_in_the_middle(
    rig: ContactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(*GOOD_ROWS))
    importing = asyncio.create_task(rig.client.import_contacts(campaign_id, upload_id))
    await gate.reached.wait()
    ended = await rig.pool.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    assert ended == 1
    gate.open.set()
    # The client repeats the call, with the same request_id, by itself.
    result = await importing
    assert result.campaign.contacts.imported == len(GOOD_ROWS)
    assert await rig.pool.fetchval("SELECT count(*) FROM contact") == len(GOOD_ROWS)
    assert not _workers()


async def test_campaign_deleted_in_the_middle(
    rig: ContactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    campaign_id = await rig.campaign()
    upload_id = await rig.uploaded(campaign_id, csv_of(*GOOD_ROWS))
    importing = asyncio.create_task(rig.client.import_contacts(campaign_id, upload_id))
    await gate.reached.wait()
    await rig.pool.execute("DELETE FROM campaign WHERE id = $1", UUID(campaign_id))
    gate.open.set()
    with pytest.raises(CallError) as caught:
        await importing
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert await contacts_of(rig) == []


def _workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "services.campaign.contacts.worker" in process.cmdline()
    except psutil.NoSuchProcess:  # it ended as it was looked at, or is a zombie
        return False


async def test_as_many_rows_as_allowed(rig: ContactRig) -> None:
    rows = 300_000
    data = csv_of(*(f"+1{2_000_000_000 + n},Name {n}" for n in range(rows)))
    result = await rig.imported(data)
    campaign = result.campaign
    assert campaign.status == campaign_pb2.CAMPAIGN_STATUS_READY
    assert (campaign.contacts.rows, campaign.contacts.imported) == (rows, rows)
    assert campaign.counts.waiting == campaign.counts.total == rows
    row = await rig.pool.fetchrow(
        "SELECT count(*), min(number), max(number), count(DISTINCT recipient) FROM contact"
    )
    assert tuple(row or ()) == (rows, 1, rows, rows)
    row = await rig.pool.fetchrow(
        "SELECT count(*), min(number), max(number), min(status), max(status) FROM message"
    )
    assert tuple(row or ()) == (rows, 1, rows, 2, 2)
    # The planner knows how large the tables are now.
    assert (
        await rig.pool.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'message'") == rows
    )

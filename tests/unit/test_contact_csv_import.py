"""From a file to contacts, counts and problems. What a payload holds is read back by hand here,
and by PostgreSQL in tests/integration."""

import hmac
import struct
from dataclasses import replace
from uuid import UUID

import pytest

from outreach.recipients import normalise_recipient, recipient_hash
from outreach.vocabulary import Channel
from services.campaign.contacts.copy_format import COPY_HEADER, COPY_TRAILER
from services.campaign.contacts.dialect import detect_layout
from services.campaign.contacts.errors import ContactFileError, ContactLimits
from services.campaign.contacts.frames import decode_spec, encode_spec
from services.campaign.contacts.importer import ContactImport, ImportBatch, ImportCounts, ImportSpec
from services.campaign.contacts.mapping import resolve_mapping

CAMPAIGN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
KEY = b"a key of recipient hashes"
ANN, BOB, EVE = "+447700900123", "+447700900124", "+12125550123"


def spec_for(text: bytes | str, channel: Channel = Channel.SMS, **changes: object) -> ImportSpec:
    data = text.encode() if isinstance(text, str) else text
    layout = detect_layout(data, complete=True, channel=channel)
    mapping, violations = resolve_mapping(layout.suggested_mapping, layout.column_names)
    assert mapping is not None, violations
    spec = ImportSpec(
        CAMPAIGN, channel, layout.encoding, layout.delimiter, layout.has_header, mapping, KEY
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def run(text: bytes | str, spec: ImportSpec | None = None, chunk: int = 1_000) -> list[ImportBatch]:
    data = text.encode() if isinstance(text, str) else text
    running = ContactImport(spec or spec_for(data))
    batches: list[ImportBatch] = []
    for start in range(0, len(data), chunk):
        batches += running.feed(data[start : start + chunk])
    batches += running.finish()
    assert [batch.last for batch in batches] == [False] * (len(batches) - 1) + [True]
    return batches


def fields_of(payload: bytes) -> list[list[bytes | None]]:
    if not payload:
        return []
    assert payload.startswith(COPY_HEADER)
    assert payload.endswith(COPY_TRAILER)
    rows, at = [], len(COPY_HEADER)
    while at < len(payload) - len(COPY_TRAILER):
        (count,) = struct.unpack_from(">h", payload, at)
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (size,) = struct.unpack_from(">i", payload, at)
            at += 4
            row.append(None if size < 0 else payload[at : at + size])
            at += max(0, size)
        rows.append(row)
    assert at == len(payload) - len(COPY_TRAILER)
    return rows


def values_of(array: bytes) -> list[str | None]:
    dimensions, _, oid = struct.unpack_from(">iii", array)
    assert oid == 25
    if not dimensions:
        return []
    count, lower = struct.unpack_from(">ii", array, 12)
    assert lower == 1
    at, values = 20, []
    for _ in range(count):
        (size,) = struct.unpack_from(">i", array, at)
        at += 4
        values.append(None if size < 0 else array[at : at + size].decode())
        at += max(0, size)
    assert at == len(array)
    return values


def contacts_of(batches: list[ImportBatch]) -> list[tuple[int, str, list[str | None]]]:
    contacts = []
    for batch in batches:
        rows = fields_of(batch.contacts)
        assert len(rows) == batch.contacts_count
        for number, (campaign, number_field, to, hashed, variables) in enumerate(
            rows, batch.first_number
        ):
            assert to is not None
            assert number_field is not None
            assert variables is not None
            assert campaign == CAMPAIGN.bytes
            assert int.from_bytes(number_field) == number
            assert hashed is not None
            assert len(hashed) == 16
            contacts.append((number, to.decode(), values_of(variables)))
    return contacts


def problems_of(batches: list[ImportBatch]) -> list[tuple[int, str, str]]:
    problems: list[tuple[int, str, str]] = []
    for batch in batches:
        rows = fields_of(batch.problems)
        assert len(rows) == batch.problems_count
        for campaign, ordinal, row, column, reason, detail in rows:
            assert campaign == CAMPAIGN.bytes
            assert ordinal is not None
            assert int.from_bytes(ordinal) == len(problems) + 1
            assert row is not None
            assert column is not None
            assert reason is not None
            assert detail
            problems.append((int.from_bytes(row), column.decode(), reason.decode()))
    return problems


def test_contacts_in_the_files_order_with_empty_cells_as_null() -> None:
    text = f'phone,name,city\n{ANN},Ann,\n{BOB},"Bob ""B"", Jr",Zürich\n'
    batches = run(text)
    assert contacts_of(batches) == [(1, ANN, ["Ann", None]), (2, BOB, ['Bob "B", Jr', "Zürich"])]
    assert problems_of(batches) == []
    assert batches[-1].counts == ImportCounts(len(text.encode()), 2, 2, 0, 0, 0)


def test_a_file_of_destinations_alone() -> None:
    assert contacts_of(run(f"{ANN}\n{BOB}")) == [(1, ANN, []), (2, BOB, [])]


@pytest.mark.parametrize("chunk", [1, 13, 10_000])
@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([f"{ANN},Ann,x"], (2, "", "ROW_RAGGED")),
        ([ANN], (2, "", "ROW_RAGGED")),
        ([f"{ANN},Ann,"], (2, "", "ROW_RAGGED")),
        ([",Ann"], (2, "phone", "ROW_RECIPIENT_MISSING")),
        (["  ,Ann"], (2, "phone", "ROW_RECIPIENT_MISSING")),
        (["07700900123,Ann"], (2, "phone", "ROW_INVALID_RECIPIENT")),
        (["+44 7700 900123,Ann"], (2, "phone", "ROW_INVALID_RECIPIENT")),
        (["+9991234567,Ann"], (2, "phone", "ROW_INVALID_RECIPIENT")),
        ([f"{ANN},{'x' * 4_097}"], (2, "name", "ROW_FIELD_TOO_LONG")),
        ([f"{ANN},{'é' * 2_049}"], (2, "name", "ROW_FIELD_TOO_LONG")),
        ([f'"{ANN}"x,Ann'], (2, "", "ROW_QUOTE_MALFORMED")),
        ([f"{BOB},x", f"{ANN},x", f"{ANN},y"], (4, "phone", "ROW_DUPLICATE")),
        # Rows are counted as a spreadsheet shows them.
        ([f'{BOB},"two\nlines"', "", ",", "bad,x"], (5, "phone", "ROW_INVALID_RECIPIENT")),
    ],
)
def test_bad_rows_are_skipped_and_named(
    rows: list[str], problem: tuple[int, str, str], chunk: int
) -> None:
    text = "\n".join(["phone,name", *rows, f"{EVE},Eve"]) + "\n"
    spec = spec_for(f"phone,name\n{EVE},Eve\n")
    batches = run(text, spec, chunk)
    assert problems_of(batches) == [problem]
    good = contacts_of(batches)
    assert good[-1][1:] == (EVE, ["Eve"])
    counts = batches[-1].counts
    assert counts.invalid + counts.duplicates == 1
    assert counts.imported == len(good)
    assert counts.rows == counts.imported + counts.invalid + counts.duplicates


def test_a_field_at_its_limit_is_kept() -> None:
    text = f"phone,name\n{ANN},{'é' * 2_048}\n{BOB},{'x' * 4_096}\n"
    assert len(contacts_of(run(text))) == 2


def test_undecodable_bytes_cost_their_row() -> None:
    spec = spec_for(f"phone,name\n{ANN},Ann\n")
    batches = run(f"phone,name\n{ANN},".encode() + b"\xff\n" + f"{BOB},é\n".encode(), spec)
    assert problems_of(batches) == [(2, "name", "ROW_UNDECODABLE")]
    assert contacts_of(batches) == [(1, BOB, ["é"])]


def test_nothing_of_a_row_is_in_its_problem() -> None:
    secret = "Sesame"
    text = f"phone,name\n+44 {secret},{secret}\n{secret},\n{ANN},{secret},{secret}\n{EVE},Eve\n"
    batches = run(text)
    assert len(problems_of(batches)) == 3
    assert not any(secret.encode() in batch.problems for batch in batches)


def test_the_first_of_duplicates_is_kept() -> None:
    text = f"phone,name\n{ANN},first\n{BOB},\n{ANN},second\n{ANN},third\n"
    batches = run(text)
    assert contacts_of(batches) == [(1, ANN, ["first"]), (2, BOB, [None])]
    assert (batches[-1].counts.duplicates, batches[-1].counts.invalid) == (2, 0)


def test_a_switch_keeps_duplicates() -> None:
    text = f"phone,name\n{ANN},first\n{ANN},second\n"
    batches = run(text, spec_for(text, keep_duplicates=True))
    assert [contact[2] for contact in contacts_of(batches)] == [["first"], ["second"]]
    assert batches[-1].counts.duplicates == 0


def test_email_duplicates_are_found_whatever_the_case() -> None:
    text = "email,name\nAnn@Example.com,1\nann@example.COM,2\nbob@example.com,3\n"
    batches = run(text, spec_for(text, Channel.EMAIL))
    assert [contact[1] for contact in contacts_of(batches)] == [
        "Ann@example.com",
        "bob@example.com",
    ]
    assert problems_of(batches) == [(3, "email", "ROW_DUPLICATE")]


def test_batches_are_bounded_and_number_on() -> None:
    text = "phone\n" + "".join(f"+4477009{n:05d}\n" for n in range(2_500)) + "bad\n" * 2_500
    batches = run(text, spec_for(text, batch_rows_max=100), chunk=100_000)
    assert all(batch.contacts_count <= 100 and batch.problems_count <= 100 for batch in batches)
    assert [contact[0] for contact in contacts_of(batches)] == list(range(1, 2_501))
    assert len(problems_of(batches)) == 2_500
    assert batches[-1].counts == ImportCounts(len(text), 5_000, 2_500, 2_500, 0, 0)


def test_the_row_limit_counts_data_rows_only() -> None:
    limits = ContactLimits(rows_max=2)
    text = f"phone\n\n{ANN}\n,\n{BOB}\n\n"
    spec = replace(spec_for(f"phone\n{ANN}\n"), limits=limits)
    assert len(contacts_of(run(text, spec))) == 2
    with pytest.raises(ContactFileError) as caught:
        run(text + "bad\n", spec)
    assert caught.value.reason == "TOO_MANY_ROWS"
    assert caught.value.metadata == {"rows_max": "2"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "FILE_EMPTY"),
        ("\n\n", "FILE_EMPTY"),
        ("phone,name\n", "FILE_HEADER_ONLY"),
        ("phone,name\n,\n\n", "FILE_HEADER_ONLY"),
        (f'phone,name\n{ANN},"Ann\n', "FILE_MALFORMED"),
        (f"phone,name\n{ANN},\0\n", "FILE_NOT_CSV"),
    ],
)
def test_refused_files(text: str, reason: str) -> None:
    with pytest.raises(ContactFileError) as caught:
        run(text, spec_for(f"phone,name\n{ANN},Ann\n"))
    assert caught.value.reason == reason


def test_all_rows_invalid_is_for_the_caller_to_judge() -> None:
    counts = run("phone,name\nbad,Ann\n")[-1].counts
    assert (counts.rows, counts.imported, counts.invalid) == (1, 0, 1)


def test_the_recipient_hash_is_keyed_and_knows_its_channel() -> None:
    expected = hmac.new(KEY, f"SMS\0{ANN}".encode(), "sha256").digest()[:16]
    assert recipient_hash(KEY, Channel.SMS, ANN) == expected
    assert recipient_hash(b"another", Channel.SMS, ANN) != expected
    assert recipient_hash(KEY, Channel.EMAIL, ANN) != expected
    assert recipient_hash(KEY, Channel.EMAIL, "A@B.co") == recipient_hash(
        KEY, Channel.EMAIL, "a@b.co"
    )
    assert normalise_recipient(Channel.EMAIL, "A@B.co") == "a@b.co"
    with pytest.raises(ValueError, match="key"):
        recipient_hash(b"", Channel.SMS, ANN)


def test_the_key_is_not_in_the_specs_text() -> None:
    assert "recipient hashes" not in repr(spec_for(f"phone\n{ANN}\n"))


def test_a_spec_survives_the_pipe() -> None:
    text = f"phone;größe\n{ANN};1\n"
    spec = spec_for(text, keep_duplicates=True, limits=ContactLimits(rows_max=7), batch_rows_max=9)
    assert decode_spec(encode_spec(spec)) == spec

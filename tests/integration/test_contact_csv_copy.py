"""What the import makes is what PostgreSQL stores."""

import io
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outreach.recipients import recipient_hash
from outreach.vocabulary import Channel
from services.campaign.contacts import copy_format
from services.campaign.contacts.errors import ContactProblem, RowReason
from services.campaign.contacts.importer import ContactImport, ImportSpec
from services.campaign.contacts.mapping import ColumnMapping, ColumnRole, Mapping

CAMPAIGN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
values = st.text(
    st.sampled_from("\\\"'{},\t\n\r\v NULL null €😀")
    | st.characters(codec="utf-8", exclude_characters="\0"),
    max_size=20,
)


async def copy(
    connection: asyncpg.Connection, table: str, columns: tuple[str, ...], data: bytes
) -> None:
    await connection.copy_to_table(table, source=io.BytesIO(data), columns=columns, format="binary")


async def test_variables_arrive_as_they_are(database_dsn: str) -> None:
    connection = await asyncpg.connect(database_dsn)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.integers(0, 4).flatmap(
            lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=1, max_size=5)
        )
    )
    def examples(rows: list[list[str]]) -> None:
        collected.append(rows)

    # Hypothesis is synchronous: it makes the examples, one connection tries them all.
    collected: list[list[list[str]]] = []
    examples()
    try:
        for rows in collected:
            encoder = copy_format.ContactEncoder(CAMPAIGN, len(rows[0]))
            for number, row in enumerate(rows, 1):
                encoder.add(number, f"to {row}", bytes([number]) * 16, row)
            await copy(
                connection, copy_format.CONTACT_TABLE, copy_format.CONTACT_COLUMNS, encoder.take()
            )
            stored = await connection.fetch("DELETE FROM contact RETURNING *")
            assert [tuple(record) for record in stored] == [
                (CAMPAIGN, n, f"to {row}", bytes([n]) * 16, [value or None for value in row])
                for n, row in enumerate(rows, 1)
            ]
    finally:
        await connection.close()


async def test_an_import_lands_in_both_tables(database_dsn: str) -> None:
    mapping = Mapping(
        (
            ColumnMapping("phone", ColumnRole.DESTINATION),
            ColumnMapping("secret", ColumnRole.DO_NOT_IMPORT),
            ColumnMapping("name", ColumnRole.CUSTOM_VARIABLE, "name"),
        )
    )
    spec = ImportSpec(CAMPAIGN, Channel.SMS, "utf-8", ",", True, mapping, b"key", batch_rows_max=2)
    data = (
        'phone,secret,name\n+447700900123,x,"A ""\\n"", {NULL}"\nbad,x,Bad\n'
        "+447700900124,x,\n+447700900123,x,Twice\n+447700900125,x,Zoë\n"
    ).encode()
    running = ContactImport(spec)
    batches = [*running.feed(data), *running.finish()]
    connection = await asyncpg.connect(database_dsn)
    try:
        async with connection.transaction():
            for batch in batches:
                if batch.contacts:
                    await copy(
                        connection,
                        copy_format.CONTACT_TABLE,
                        copy_format.CONTACT_COLUMNS,
                        batch.contacts,
                    )
                if batch.problems:
                    await copy(
                        connection,
                        copy_format.PROBLEM_TABLE,
                        copy_format.PROBLEM_COLUMNS,
                        batch.problems,
                    )
        contacts = await connection.fetch(
            "SELECT number, recipient, recipient_hash, variables FROM contact ORDER BY number"
        )
        problems = await connection.fetch(
            "SELECT ordinal, row_number, column_name, reason FROM contact_problem ORDER BY ordinal"
        )
    finally:
        await connection.close()
    expected = [
        ("+447700900123", ['A "\\n", {NULL}']),
        ("+447700900124", [None]),
        ("+447700900125", ["Zoë"]),
    ]
    assert [tuple(record) for record in contacts] == [
        (number, to, recipient_hash(b"key", Channel.SMS, to), variables)
        for number, (to, variables) in enumerate(expected, 1)
    ]
    assert [tuple(record) for record in problems] == [
        (1, 3, "phone", RowReason.INVALID_RECIPIENT),
        (2, 5, "phone", RowReason.DUPLICATE),
    ]


def test_no_problems_are_no_payload() -> None:
    assert copy_format.problems_payload(CAMPAIGN, []) == b""
    problem = ContactProblem(1, 2, "phone", RowReason.RAGGED, "why")
    assert copy_format.problems_payload(CAMPAIGN, [problem])
    assert copy_format.ContactEncoder(CAMPAIGN, 3).take() == b""

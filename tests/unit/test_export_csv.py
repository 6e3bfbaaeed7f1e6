"""Lines of CSV from what COPY sends: nothing is lost, nothing begins a formula, and any reader reads it."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outreach.errors import OutreachError
from services.export.domain.columns import (
    CAMPAIGN_COLUMNS,
    MESSAGE_COLUMNS,
    Column,
    Kind,
    chosen,
    message_columns,
)
from services.export.domain.csv_lines import SHORT_MARKS, CsvLines, Marks
from services.export.store.steps import QUERIES, _rows_next

ESCAPES = {
    "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
TRICKY = st.text(
    st.sampled_from('=+-@\t\r\n\\",;\'xt \x01\x02\x03\b\f\vé😀%$1sNZ:0'), max_size=8
) | TEXT  # fmt: skip


def texts(count: int) -> list[Column]:
    return [Column(f"c{place}", Kind.TEXT, place) for place in range(1, count + 1)]


def copied(lines: CsvLines, rows: list[list[str | None]], marks: Marks) -> bytes:
    """What PostgreSQL's `format` and COPY make of the rows."""
    out = []
    for row in rows:
        template = lines.template(marks)
        cells = re.split(r"%(\d+)\$s", template)
        # Every second part is a place.
        cells[1::2] = [row[int(place) - 1] or "" for place in cells[1::2]]
        line = "".join(cells)
        out.append("".join(ESCAPES.get(letter, letter) for letter in line) + "\n")
    return "".join(out).encode()


def read(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


@pytest.mark.parametrize("safe", [True, False])
@given(rows=st.lists(st.lists(TRICKY, min_size=3, max_size=3), max_size=6))
def test_every_cell_is_read_back(safe: bool, rows: list[list[str]]) -> None:
    lines = CsvLines(texts(3), safe=safe)
    marks = SHORT_MARKS
    if not lines.are_whole(copied(lines, list(rows), marks), len(rows), marks):  # type: ignore[arg-type]
        assert any(mark in cell for row in rows for cell in row for mark in marks)
        marks = Marks.fresh()
    data = copied(lines, list(rows), marks)  # type: ignore[arg-type]
    assert lines.are_whole(data, len(rows), marks)
    found = read(lines.of(data, marks))
    if not safe:
        assert found == rows
        return
    for row, cells in zip(rows, found, strict=True):
        for cell, shown in zip(row, cells, strict=True):
            assert not shown.startswith(FORMULA)
            assert shown == ("'" + cell if cell.startswith(FORMULA) else cell)


@given(rows=st.lists(TRICKY, max_size=6))
def test_a_column_alone_has_a_line_for_each_row(rows: list[str]) -> None:
    lines, marks = CsvLines(texts(1), safe=False), Marks.fresh()
    found = read(lines.of(copied(lines, [[cell] for cell in rows], marks), marks))
    assert found == [[cell] for cell in rows]


def test_marks_in_the_data_never_go_unseen() -> None:
    lines = CsvLines(texts(2), safe=True)
    for cell in (*SHORT_MARKS, "a\1b", "\2,\1"):
        data = copied(lines, [["x", cell], ["y", "z"]], SHORT_MARKS)
        assert not lines.are_whole(data, 2, SHORT_MARKS)


def test_fresh_marks_are_each_time_others_and_in_no_other() -> None:
    marks = {mark for _ in range(50) for mark in Marks.fresh()}
    assert len(marks) == 100
    assert not any(a in b for a in marks for b in marks if a != b)


def test_lines_as_rfc_4180_says() -> None:
    columns = [Column("n", Kind.PLAIN, 1), Column("t", Kind.TEXT, 2), Column("at", Kind.PLAIN, 3)]
    lines = CsvLines(columns, safe=True)
    data = copied(lines, [["1", 'a"b', None], ["2", None, "2026-11-25T23:55:02Z"]], SHORT_MARKS)
    assert lines.header + lines.of(data, SHORT_MARKS) == (
        b'n,t,at\r\n1,"a""b",\r\n2,"",2026-11-25T23:55:02Z\r\n'
    )
    alone = CsvLines([Column("at", Kind.PLAIN, 1)], safe=True)
    assert alone.of(copied(alone, [[None]], SHORT_MARKS), SHORT_MARKS) == b'""\r\n'


def test_columns_are_chosen_by_name() -> None:
    known = message_columns(["name", "city"])
    assert chosen([], known) == known
    assert [c.name for c in chosen(["variable.city", "run"], known)] == ["variable.city", "run"]
    for asked, reason in (([""], "EXPORT_COLUMN_UNKNOWN"), (["run", "run"], "INVALID_REQUEST")):
        with pytest.raises(OutreachError) as refused:
            chosen(asked, known)
        assert refused.value.reason == reason


def test_the_statements_give_as_many_cells_as_there_are_columns() -> None:
    for name, columns in (("copy_messages", MESSAGE_COLUMNS), ("copy_campaigns", CAMPAIGN_COLUMNS)):
        array = QUERIES[name].partition("ARRAY[")[2].partition("\n    ]")[0]
        names = list(dict.fromkeys(re.findall(r"\b[mc]\.(\w+)", array)))
        assert names == [column.name for column in columns]


def test_no_comment_names_a_parameter() -> None:
    """asyncpg puts values there too, and a value with a line break would end the comment."""
    for name, statement in QUERIES.items():
        for line in statement.splitlines():
            assert "$" not in line.partition("--")[2], name


def test_the_next_step_is_as_large_as_the_last_one_suggests() -> None:
    assert _rows_next(10_000, 1_000_000, 10_000) == 10_000
    assert _rows_next(100, 20 * 1024 * 1024, 10_000) == 10
    assert _rows_next(1, 10**9, 10_000) == 1
    assert _rows_next(5, 0, 10_000) == 10_000


def test_where_exports_are_by_default() -> None:
    from outreach.client.connection import default_export_address

    for address, expected in (
        ("127.0.0.1:50051", "127.0.0.1:50053"),
        ("outreach.example:7", "outreach.example:50053"),
        ("[::1]:50051", "[::1]:50053"),
        ("outreach", "outreach:50053"),
        ("https://outreach.example:443", "https://outreach.example:443"),
    ):
        assert default_export_address(address) == expected

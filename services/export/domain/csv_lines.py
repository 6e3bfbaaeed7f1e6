"""Rows as PostgreSQL copies them become lines of CSV (RFC 4180), a whole step at a time.

PostgreSQL puts each row's chosen cells into one text by a template (its function `format`), texts and times between
marks, and sends it in COPY's text format. All that is left is a dozen passes over some hundred thousand bytes, each in
C: no row and no cell is touched by Python, unless it has a backslash, a tab or a line break.

A mark may occur in the data too. Then there are more marks than cells, which is noticed, and the step is copied again
between marks that nobody can have foreseen.
"""

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from services.export.domain.columns import Column, Kind

LINE_END = b"\r\n"

# What begins a formula for some spreadsheet program, in COPY's spelling.
_FORMULA_BEGINS = (b"=", b"+", b"-", b"@", b"\\t", b"\\n", b"\\r")
_ESCAPE = re.compile(rb"\\(.)")
_ESCAPED = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
}


class Marks(NamedTuple):
    """What stands before a text, after it, and on both sides of a time."""

    begin: str
    end: str
    time: str

    @classmethod
    def fresh(cls) -> "Marks":
        """Marks that are in no data that was there before. None of them can begin inside of another."""
        name = secrets.token_hex(8)
        return cls(f"\1{name}", f"\2{name}", f"\3{name}")


#: One byte each, and hardly ever in the data.
SHORT_MARKS = Marks("\1", "\2", "\3")


class CsvLines:
    """The lines of one export. `safe`: no cell is one that a spreadsheet takes for a formula."""

    def __init__(self, columns: Sequence[Column], *, safe: bool) -> None:
        self._columns = columns
        self._safe = safe
        self._texts = sum(column.kind is Kind.TEXT for column in columns)
        self._times = sum(column.kind is Kind.TIME for column in columns)
        # Alone in its line an empty cell would be no row to many programs.
        self._empty = b'""' if len(columns) == 1 else b""

    @property
    def header(self) -> bytes:
        """The first line. Names are letters, digits, `_` and `.`."""
        return ",".join(column.name for column in self._columns).encode() + LINE_END

    def template(self, marks: Marks) -> str:
        """What PostgreSQL's `format` makes a row's text by."""
        around = {
            Kind.PLAIN: ("", ""),
            Kind.TEXT: (marks.begin, marks.end),
            Kind.TIME: (marks.time, marks.time),
        }
        cells = []
        for column in self._columns:
            before, after = around[column.kind]
            cells.append(f"{before}%{column.place}$s{after}")
        return ",".join(cells)

    def are_whole(self, copied: bytes, rows: int, marks: Marks) -> bool:
        """Whether it can be told where cells end: no cell has one of the marks in it."""
        begin, end, time = (copied.count(mark.encode()) for mark in marks)
        texts, times = rows * self._texts, 2 * rows * self._times
        return (begin, end, time) == (texts, texts, times)

    def of(self, copied: bytes, marks: Marks) -> bytes:
        """The lines of the rows that were copied with these marks and are whole."""
        begin, end, time = (mark.encode() for mark in marks)
        data = copied
        if self._times:
            # JSON's form of a time in UTC: "2026-11-25T10:20:30.123456+00:00".
            data = data.replace(b'+00:00"' + time, b"Z").replace(time + b'"', b"")
            data = data.replace(time + time, self._empty)
        if self._texts:
            if self._safe:
                for first in _FORMULA_BEGINS:
                    data = data.replace(begin + first, begin + b"'" + first)
            data = data.replace(b'"', b'""').replace(begin + end, self._empty)
            data = data.replace(begin, b'"').replace(end, b'"')
        # Only rows end in a line feed so far: those of the data are spelled \n.
        data = data.replace(b"\n", LINE_END)
        if b"\\" in data:
            data = _ESCAPE.sub(lambda found: _ESCAPED[found[1]], data)
        return data

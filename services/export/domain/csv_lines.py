"""Rows as PostgreSQL copies them become lines of CSV (RFC 4180), a whole step at a time.

PostgreSQL puts each row's chosen cells into one text by a template (its function `format`), texts between marks, and
sends it in COPY's text format. All that is left is a few passes over a megabyte, each in C: no row and no cell is
touched by Python, unless it begins a formula or has a backslash, a tab or a line break.

A mark may occur in the data too. Then there are more marks than cells, which is noticed, and the step is copied again
between marks that nobody can have foreseen.
"""

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from services.export.domain.columns import Column, Kind

LINE_END = b"\r\n"

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
    """What stands before a text, and after it."""

    begin: str
    end: str

    @classmethod
    def fresh(cls) -> "Marks":
        """Marks that are in no data that was there before. None of them can begin inside of another."""
        name = secrets.token_hex(8)
        return cls(f"\1{name}", f"\2{name}")


#: One byte each, and hardly ever in the data.
SHORT_MARKS = Marks("\1", "\2")


class CsvLines:
    """The lines of one export. `safe`: no cell is one that a spreadsheet takes for a formula."""

    def __init__(self, columns: Sequence[Column], *, safe: bool) -> None:
        self._columns = columns
        self.safe = safe
        # Alone in its line a cell is always in quotes: an empty line is no row to many programs.
        self._is_text = [column.kind is Kind.TEXT or len(columns) == 1 for column in columns]

    @property
    def header(self) -> bytes:
        """The first line. Names are letters, digits, `_` and `.`."""
        return ",".join(column.name for column in self._columns).encode() + LINE_END

    def template(self, marks: Marks) -> str:
        """What PostgreSQL's `format` makes a row's text by."""
        return ",".join(
            f"{marks.begin}%{column.place}$s{marks.end}" if is_text else f"%{column.place}$s"
            for column, is_text in zip(self._columns, self._is_text, strict=True)
        )

    def are_whole(self, copied: bytes, rows: int, marks: Marks) -> bool:
        """Whether it can be told where cells end: no cell has one of the marks in it."""
        texts = rows * sum(self._is_text)
        return all(copied.count(mark.encode()) == texts for mark in marks)

    def of(self, copied: bytes, marks: Marks) -> bytes:
        """The lines of the rows that were copied with these marks and are whole."""
        begin, end = (mark.encode() for mark in marks)
        data = copied
        if self.safe:
            # What begins a formula for some spreadsheet program, in COPY's spelling.
            data = re.sub(re.escape(begin) + rb"(?=[=+@-]|\\[tnr])", begin + b"'", data)
        data = data.replace(b'"', b'""').replace(begin, b'"').replace(end, b'"')
        # Only rows end in a line feed so far: those of the data are spelled \n.
        data = data.replace(b"\n", LINE_END)
        if b"\\" in data:
            data = _ESCAPE.sub(lambda found: _ESCAPED[found[1]], data)
        return data

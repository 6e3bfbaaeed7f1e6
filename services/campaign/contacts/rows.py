"""Rows of a CSV file out of chunks of bytes that may be cut anywhere: RFC 4180, strict, bounded in
memory.

Parsing is the standard library's (in C). It works on whole text and forgets an unfinished record,
so the reader keeps the text from the start of that record and offers it again with the next chunk;
limits keep this from growing.
"""

import codecs
import csv
import io
import re
from dataclasses import dataclass

from services.campaign.contacts.errors import ContactFileError, ContactLimits, RowReason

#: Chunks are gathered up to this size before they are parsed, so that tiny chunks don't cost a
#: parse each.
PARSE_BYTES_MIN = 64 * 1024

_FIELD = "file"
_UNFINISHED = "unexpected end of data"  # the csv module's words; a test holds them
_has_undecoded = re.compile("[\ud800-\udfff]").search


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be taken apart, in the place of its fields."""

    reason: RowReason
    detail: str


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Consecutive rows; the first is number `first_row_number` (from 1, all rows of the file
    counted).

    A blank row is an empty list. A field that could not be decoded holds surrogates when
    `has_undecoded` is set.
    """

    first_row_number: int
    rows: list[list[str] | BadRow]
    has_undecoded: bool


class RowReader:
    """Feed it bytes, take blocks of rows; `finish` gives the last ones.

    Raises ContactFileError: FILE_NOT_CSV (a NUL character), FILE_MALFORMED (a quote that is never
    closed, an endless row, bytes that break the encoding), FILE_TOO_LARGE. After an error the
    reader is of no further use.
    """

    def __init__(
        self,
        encoding: str,
        delimiter: str,
        limits: ContactLimits,
        *,
        parse_bytes_min: int = PARSE_BYTES_MIN,
    ) -> None:
        # An undecodable byte becomes a lone surrogate, so that only its row is lost.
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._delimiter = delimiter
        self._limits = limits
        self._parse_bytes_min = parse_bytes_min
        self._gathered = bytearray()
        self._pending = ""  # from the start of the unfinished row
        self._at_start = True
        self.bytes_read = 0
        self.rows_read = 0

    def feed(self, chunk: bytes) -> RowBlock:
        """Take further bytes; the rows that are complete now (often none)."""
        self.bytes_read += len(chunk)
        if self.bytes_read > self._limits.file_bytes_max:
            raise ContactFileError(
                "FILE_TOO_LARGE",
                _FIELD,
                f"The file is over {self._limits.file_bytes_max:,} bytes; split it.",
                {"bytes_max": str(self._limits.file_bytes_max)},
            )
        self._gathered += chunk
        if len(self._gathered) < self._parse_bytes_min:
            return RowBlock(self.rows_read + 1, [], has_undecoded=False)
        return self._parse(final=False)

    def finish(self) -> RowBlock:
        """The end of the file: the rows that were still waiting."""
        return self._parse(final=True)

    def _parse(self, *, final: bool) -> RowBlock:
        text = self._pending + self._decode(final=final)
        end = len(text) if final else self._last_line_end(text)
        text, tail = text[:end], text[end:]
        first = self.rows_read + 1
        rows: list[list[str] | BadRow] = []
        rest = ""
        if text:
            # newline="" keeps line ends as they are, and ends lines only where CSV does (not at
            # U+2028).
            lines = io.StringIO(text, newline="").readlines()
            rows, rest = self._parse_lines(lines, final=final)
        self._pending = rest + tail
        if len(self._pending) > self._limits.row_characters_max:
            raise self._row_too_long(0)
        undecoded = not text.isascii() and _has_undecoded(text) is not None
        return RowBlock(first, rows, undecoded)

    def _decode(self, *, final: bool) -> str:
        data = bytes(self._gathered)
        self._gathered.clear()
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            # Multi-byte encodings can lose their place; nothing after it could be trusted.
            raise self._malformed(
                "UNDECODABLE",
                "The file breaks its own encoding; save it as UTF-8.",
            ) from None
        if self._at_start and text:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if "\0" in text:
            raise ContactFileError(
                "FILE_NOT_CSV",
                _FIELD,
                "The file has NUL characters, so it is no CSV text; export it as CSV again.",
                {"found": "NUL"},
            )
        return text

    def _last_line_end(self, text: str) -> int:
        """Where the last complete line ends. A carriage return at the very end may be half of a CR
        LF.

        What was pending holds no line end that matters: either none at all, or it was tried and its
        quotes are open.
        """
        scanned = len(self._pending)
        newline = text.rfind("\n", scanned)
        carriage_return = text.rfind("\r", max(0, scanned - 1), len(text) - 1)
        return max(newline, carriage_return) + 1

    def _parse_lines(
        self, lines: list[str], *, final: bool
    ) -> tuple[list[list[str] | BadRow], str]:
        """The rows of whole lines, and the text of the last row when its quotes are still open."""
        rows: list[list[str] | BadRow] = []
        reader = csv.reader(iter(lines), delimiter=self._delimiter, strict=True)
        while True:
            before = reader.line_num  # lines that belong to finished rows
            try:
                for row in reader:
                    if (
                        reader.line_num > before + 1
                        or len(lines[before]) > self._limits.field_bytes_max
                    ):
                        self._check_bounds(lines[before : reader.line_num], row, len(rows))
                    rows.append(row)
                    before = reader.line_num
                self.rows_read += len(rows)
                return rows, ""
            except csv.Error as error:
                taken = lines[before : reader.line_num]
                if str(error) == _UNFINISHED:
                    self._check_open_quote("".join(taken), len(rows), final=final)
                    self.rows_read += len(rows)
                    return rows, "".join(taken)
                if len(taken) > 1:
                    # A closing quote in the wrong place, lines later: the quote was opened by
                    # mistake.
                    raise self._unclosed_quote(len(rows)) from None
                self._check_bounds(taken, [], len(rows))
                rows.append(self._bad_row(error))

    def _bad_row(self, error: csv.Error) -> BadRow:
        if "field limit" in str(error):
            return BadRow(RowReason.FIELD_TOO_LONG, too_long_detail(self._limits))
        return BadRow(
            RowReason.QUOTE_MALFORMED,
            'A quoted field goes on after its closing quote; write a quote inside it twice ("").',
        )

    def _check_bounds(self, taken: list[str], row: list[str], rows_before: int) -> None:
        longest = max(map(len, row), default=0)
        if len(taken) > 1 and longest > self._limits.open_quote_characters_max:
            raise self._unclosed_quote(rows_before)
        if sum(map(len, taken)) > self._limits.row_characters_max:
            raise self._row_too_long(rows_before)

    def _check_open_quote(self, taken: str, rows_before: int, *, final: bool) -> None:
        """An unfinished row is fine while each of its fields stays within bounds."""
        if final:
            raise self._unclosed_quote(rows_before)
        if len(taken) > self._limits.open_quote_characters_max:
            text = io.StringIO(taken, newline="")
            # Not strict: gives the unfinished field too.
            fields = next(csv.reader(text, delimiter=self._delimiter, strict=False))
            if max(map(len, fields)) > self._limits.open_quote_characters_max:
                raise self._unclosed_quote(rows_before)

    def _unclosed_quote(self, rows_before: int) -> ContactFileError:
        return self._malformed(
            "UNCLOSED_QUOTE",
            "opens a quote that is not closed; close it, or write a quote inside a field twice.",
            self.rows_read + rows_before + 1,
        )

    def _row_too_long(self, rows_before: int) -> ContactFileError:
        return self._malformed(
            "ROW_TOO_LONG",
            f"is over {self._limits.row_characters_max:,} characters long; is this a CSV file?",
            self.rows_read + rows_before + 1,
        )

    def _malformed(self, problem: str, text: str, row: int | None = None) -> ContactFileError:
        metadata = {"problem": problem}
        if row is not None:
            metadata["row"] = str(row)
            text = f"Row {row} {text}"
        return ContactFileError("FILE_MALFORMED", _FIELD, text, metadata)


def too_long_detail(limits: ContactLimits) -> str:
    """The sentence for a field over the limit."""
    return f"The field is over {limits.field_bytes_max:,} bytes; shorten it."


def is_undecoded(field: str) -> bool:
    """Whether a field holds bytes that are no text in the file's encoding."""
    return _has_undecoded(field) is not None

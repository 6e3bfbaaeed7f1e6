"""How a file is laid out, told from its first bytes: encoding, delimiter, header, columns, and what
each could be for.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from outreach.vocabulary import Channel
from services.campaign.contacts.destinations import destination_check
from services.campaign.contacts.encodings import detect_encoding
from services.campaign.contacts.errors import ContactFileError, ContactLimits
from services.campaign.contacts.mapping import ColumnMapping, ColumnRole
from services.campaign.contacts.rows import RowReader
from services.campaign.contacts.variables import derive_variable_names

#: How much of a file is worth looking at.
HEAD_BYTES_MAX = 256 * 1024
#: Longer headers are cut: a column's name is stored with each of its problems.
COLUMN_NAME_CHARACTERS_MAX = 200
SAMPLE_ROWS_MAX = 5
SAMPLE_CHARACTERS_MAX = 200

_ROWS_EXAMINED_MAX = 100
_DELIMITERS = (",", ";", "\t")
# Looser than what is accepted: a bad number in the first row is still no header.
_looks_like_destination = {
    Channel.SMS: re.compile(r"\s*\+?\(?\d(?:[\s()./-]*\d){6,17}\s*").fullmatch,
    Channel.EMAIL: re.compile(r"\s*[^\s@]+@[^\s@]+\.[^\s@]+\s*").fullmatch,
}
_header_says_destination = {
    Channel.SMS: re.compile(
        r"phone|mobile|cell|msisdn|number|sms|whatsapp|^tel|^to$", re.IGNORECASE
    ).search,
    Channel.EMAIL: re.compile(r"e-?mail|address|^to$", re.IGNORECASE).search,
}


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column: the header's text, or `column_1`… without a header, and what it would be used
    for.
    """

    name: str
    suggestion: ColumnMapping


@dataclass(frozen=True, slots=True)
class FileLayout:
    """What the first bytes tell. `sample_rows` are up to 5 data rows, long values cut at 200
    characters.
    """

    encoding: str
    encoding_guessed: bool
    delimiter: str
    has_header: bool
    columns: tuple[FileColumn, ...]
    sample_rows: tuple[tuple[str, ...], ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in the file's order."""
        return tuple(column.name for column in self.columns)

    @property
    def suggested_mapping(self) -> tuple[ColumnMapping, ...]:
        """What the columns would be used for; without a DESTINATION when none looks like one."""
        return tuple(column.suggestion for column in self.columns)


def detect_layout(
    head: bytes,
    *,
    complete: bool,
    channel: Channel,
    has_header: bool | None = None,
    limits: ContactLimits | None = None,
) -> FileLayout:
    """Tell a file's layout from its first bytes (256 KiB are plenty; `complete`: they are all of
    it).

    `has_header` overrules the detection. Raises ContactFileError: FILE_EMPTY, FILE_NOT_CSV,
    ENCODING_UNKNOWN, FILE_HEADER_ONLY, TOO_MANY_COLUMNS, FILE_MALFORMED. Takes up to some 100 ms of
    CPU when the encoding is a guess.
    """
    limits = limits or ContactLimits()
    if complete and not head.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0"):
        raise _empty()
    encoding = detect_encoding(head, complete=complete)
    delimiter, rows = _choose_delimiter(head, complete, encoding.name, channel, limits)
    if not rows:
        raise _empty() if complete else _no_end_of_row()
    if has_header is None:
        has_header = not any(map(_looks_like_destination[channel], rows[0]))
    if has_header and complete and len(rows) == 1:
        raise ContactFileError(
            "FILE_HEADER_ONLY", "file", "The file has a header and no contacts; add rows."
        )
    header = rows[0]
    if len(header) > limits.columns_max:
        raise ContactFileError(
            "TOO_MANY_COLUMNS",
            "file",
            f"The file has {len(header):,} columns; at most {limits.columns_max} are read.",
            {"columns": str(len(header)), "columns_max": str(limits.columns_max)},
        )
    numbered = [f"column_{number}" for number in range(1, len(header) + 1)]
    names = [
        (_printable(text.strip())[:COLUMN_NAME_CHARACTERS_MAX] if has_header else "") or number
        for text, number in zip(header, numbered, strict=True)
    ]
    data = rows[1:] if has_header else rows
    destination = _suggest_destination(names, data, channel)
    return FileLayout(
        encoding=encoding.name,
        encoding_guessed=encoding.guessed,
        delimiter=delimiter,
        has_header=has_header,
        columns=tuple(
            FileColumn(
                name,
                ColumnMapping(name, ColumnRole.DESTINATION)
                if index == destination
                else ColumnMapping(name, ColumnRole.CUSTOM_VARIABLE, variable),
            )
            for index, (name, variable) in enumerate(
                zip(names, derive_variable_names(names), strict=True)
            )
        ),
        sample_rows=tuple(
            tuple(_printable(value)[:SAMPLE_CHARACTERS_MAX] for value in row)
            for row in data[:SAMPLE_ROWS_MAX]
        ),
    )


def _choose_delimiter(
    head: bytes, complete: bool, encoding: str, channel: Channel, limits: ContactLimits
) -> tuple[str, list[list[str]]]:
    """The delimiter under which the rows look most like a table with destinations, and the first
    rows.
    """
    best: tuple[tuple[float, float, int], str, list[list[str]]] | None = None
    refusal: ContactFileError | None = None
    for delimiter in _DELIMITERS:
        try:
            rows = _first_rows(head, complete, encoding, delimiter, limits)
        except ContactFileError as error:
            # A wrong delimiter can make quotes look wrong; the error counts when no delimiter does
            # better.
            refusal = refusal or error
            continue
        if complete and not rows:
            raise _empty()  # nothing but delimiters
        score = _table_score(rows, channel)
        if best is None or score > best[0]:
            best = (score, delimiter, rows)
    # One column proves nothing: under a wrong delimiter every file has one.
    if refusal is not None and (best is None or best[0][2] <= 1):
        raise refusal
    if best is None:
        raise _empty()
    return best[1], best[2]


def _first_rows(
    head: bytes, complete: bool, encoding: str, delimiter: str, limits: ContactLimits
) -> list[list[str]]:
    reader = RowReader(encoding, delimiter, limits, parse_bytes_min=1)
    blocks = [reader.feed(head)]
    if complete:
        blocks.append(reader.finish())
    rows = (row for block in blocks for row in block.rows)
    whole = (row for row in rows if isinstance(row, list) and any(map(str.strip, row)))
    return list(islice(whole, _ROWS_EXAMINED_MAX))


def _table_score(rows: Sequence[Sequence[str]], channel: Channel) -> tuple[float, float, int]:
    """(share of rows with a destination, share of rows as wide as most, width)."""
    if not rows:
        return (0.0, 0.0, 0)
    looks = _looks_like_destination[channel]
    destinations = sum(any(map(looks, row)) for row in rows) / len(rows)
    width, count = Counter(map(len, rows)).most_common(1)[0]
    return (round(destinations, 1), count / len(rows) if width > 1 else 0.0, width)


def _suggest_destination(
    names: Sequence[str], rows: Sequence[Sequence[str]], channel: Channel
) -> int | None:
    """The column with the most valid recipients, then the one whose header says so; None: none
    comes near.
    """
    check, says = destination_check(channel), _header_says_destination[channel]
    looks = _looks_like_destination[channel]
    best: tuple[float, float, bool] = (0.0, 0.0, False)
    choice = None
    for index, name in enumerate(names):
        values = [row[index] for row in rows if index < len(row) and row[index].strip()]
        valid = sum(check(value) is not None for value in values) / max(1, len(values))
        like = sum(looks(value) is not None for value in values) / max(1, len(values))
        said = says(name) is not None
        score = (valid, like, said)
        if score > best and (valid + like > 0.5 or said):
            best, choice = score, index
    return choice


def _printable(value: str) -> str:
    """Bytes that could not be decoded are shown as the replacement character."""
    return value.encode("utf-8", "replace").decode() if not value.isascii() else value


def _no_end_of_row() -> ContactFileError:
    return ContactFileError(
        "FILE_MALFORMED",
        "file",
        f"Row 1 goes on for over {HEAD_BYTES_MAX:,} bytes; is this a CSV file?",
        {"problem": "ROW_TOO_LONG", "row": "1"},
    )


def _empty() -> ContactFileError:
    return ContactFileError("FILE_EMPTY", "file", "The file is empty; add contacts.")

"""One import: bytes of a file in, batches of contacts and problems out, ready for COPY. Pure; holds
no more than a batch and one 16-byte hash a contact.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from outreach.recipients import recipient_hash
from outreach.vocabulary import Channel
from services.campaign.contacts.copy_format import ContactEncoder, problems_payload
from services.campaign.contacts.destinations import INVALID_RECIPIENT, destination_check
from services.campaign.contacts.errors import (
    ContactFileError,
    ContactLimits,
    ContactProblem,
    RowReason,
)
from services.campaign.contacts.mapping import Mapping
from services.campaign.contacts.rows import (
    BadRow,
    RowBlock,
    RowReader,
    is_undecoded,
    too_long_detail,
)

BATCH_ROWS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """What an import is made by: the file's layout, a valid mapping, and the campaign.

    `recipient_hash_key` is the deployment's secret key of recipient hashes. `keep_duplicates` keeps
    contacts whose recipient was seen before in the file.
    """

    campaign_id: UUID
    channel: Channel
    encoding: str
    delimiter: str
    has_header: bool
    mapping: Mapping
    recipient_hash_key: bytes = field(repr=False)
    keep_duplicates: bool = False
    limits: ContactLimits = field(default_factory=ContactLimits)
    batch_rows_max: int = BATCH_ROWS_MAX


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """Totals since the beginning of the file: rows = imported + invalid + duplicates.

    Blank rows and the header are in none of these; `blank` counts the former.
    """

    bytes_read: int = 0
    rows: int = 0
    imported: int = 0
    invalid: int = 0
    duplicates: int = 0
    blank: int = 0


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """What came out of a stretch of the file.

    `contacts` and `problems` are whole binary COPY payloads for `copy_format.CONTACT_TABLE` and
    `PROBLEM_TABLE`, b"" when there are none; `contacts_count` and `problems_count` their rows.
    `first_number` is the number of the first contact (numbers run 1…N over the import). `counts`
    are totals so far. `last`: the import is over.
    """

    contacts: bytes
    contacts_count: int
    first_number: int
    problems: bytes
    problems_count: int
    counts: ImportCounts
    last: bool = False


class ContactImport:
    """An import under way: `feed` chunks of any size, then `finish`.

    Both raise ContactFileError when the whole file must be refused; what came before is then void
    too (all or nothing). Row problems never raise. The caller decides what an import without any
    contact means.
    """

    def __init__(self, spec: ImportSpec) -> None:
        self._spec = spec
        self._names = [column.name for column in spec.mapping.columns]
        self._width = len(self._names)
        self._destination = spec.mapping.destination_index
        self._variables = spec.mapping.variable_indexes
        self._check: Callable[[str], str | None] = destination_check(spec.channel)
        self._reader = RowReader(spec.encoding, spec.delimiter, spec.limits)
        self._header_due = spec.has_header
        self._seen: set[bytes] = set()
        self._encoder = ContactEncoder(spec.campaign_id, len(self._variables))
        self._problems: list[ContactProblem] = []
        self._problems_before = 0
        self._rows = self._imported = self._invalid = self._duplicates = self._blank = 0

    def feed(self, chunk: bytes) -> Iterator[ImportBatch]:
        """Take further bytes; gives the batches that are full now. Consume it before the next
        call.
        """
        yield from self._take(self._reader.feed(chunk))

    def finish(self) -> Iterator[ImportBatch]:
        """The end of the file; gives the last batches, the very last one with `last` set.

        Raises FILE_EMPTY or FILE_HEADER_ONLY when there was no data row.
        """
        yield from self._take(self._reader.finish())
        if not self._rows:
            if self._spec.has_header and not self._header_due:
                raise ContactFileError(
                    "FILE_HEADER_ONLY", "file", "The file has a header and no contacts; add rows."
                )
            raise ContactFileError("FILE_EMPTY", "file", "The file is empty; add contacts.")
        yield self._batch(last=True)

    @property
    def counts(self) -> ImportCounts:
        """Totals so far."""
        return ImportCounts(
            self._reader.bytes_read,
            self._rows,
            self._imported,
            self._invalid,
            self._duplicates,
            self._blank,
        )

    def _take(self, block: RowBlock) -> Iterator[ImportBatch]:
        batch_rows_max = self._spec.batch_rows_max
        for number, row in enumerate(block.rows, block.first_row_number):
            if isinstance(row, list) and not any(map(str.strip, row)):
                self._blank += 1
                continue
            if self._header_due:
                self._header_due = False
                continue
            self._rows += 1
            if self._rows > self._spec.limits.rows_max:
                raise self._too_many_rows()
            if isinstance(row, BadRow):
                self._problem(number, "", row.reason, row.detail)
            else:
                self._take_row(number, row, block.has_undecoded)
            if self._encoder.rows >= batch_rows_max or len(self._problems) >= batch_rows_max:
                yield self._batch()

    def _take_row(self, number: int, row: list[str], maybe_undecoded: bool) -> None:
        if len(row) != self._width:
            fields = "1 field" if len(row) == 1 else f"{len(row):,} fields"
            columns = "1 column" if self._width == 1 else f"{self._width} columns"
            detail = f"The row has {fields}, the file {columns}."
            self._problem(number, "", RowReason.RAGGED, detail)
            return
        fault = _field_fault(row, self._spec.limits.field_bytes_max, maybe_undecoded)
        if fault is not None:
            index, reason = fault
            detail = too_long_detail(self._spec.limits)
            if reason is RowReason.UNDECODABLE:
                detail = f"Bytes that are no {self._spec.encoding} text; save the file as UTF-8."
            self._problem(number, self._names[index], reason, detail)
            return
        given = row[self._destination]
        recipient = self._check(given)
        if recipient is None:
            self._bad_recipient(number, given)
            return
        spec = self._spec
        hashed = recipient_hash(spec.recipient_hash_key, spec.channel, recipient)
        if hashed in self._seen and not spec.keep_duplicates:
            self._duplicate(number)
            return
        self._seen.add(hashed)
        self._imported += 1
        self._encoder.add(self._imported, recipient, hashed, [row[i] for i in self._variables])

    def _bad_recipient(self, number: int, given: str) -> None:
        column = self._names[self._destination]
        if given.strip():
            detail = INVALID_RECIPIENT[self._spec.channel]
            self._problem(number, column, RowReason.INVALID_RECIPIENT, detail)
        else:
            self._problem(number, column, RowReason.RECIPIENT_MISSING, "There is no recipient.")

    def _duplicate(self, number: int) -> None:
        self._duplicates += 1
        self._record(
            number,
            self._names[self._destination],
            RowReason.DUPLICATE,
            "An earlier row has the same recipient; that one is kept.",
        )

    def _problem(self, number: int, column: str, reason: RowReason, detail: str) -> None:
        self._invalid += 1
        self._record(number, column, reason, detail)

    def _record(self, number: int, column: str, reason: RowReason, detail: str) -> None:
        ordinal = self._problems_before + len(self._problems) + 1
        self._problems.append(ContactProblem(ordinal, number, column, reason, detail))

    def _batch(self, *, last: bool = False) -> ImportBatch:
        contacts_count, problems = self._encoder.rows, self._problems
        batch = ImportBatch(
            contacts=self._encoder.take(),
            contacts_count=contacts_count,
            first_number=self._imported - contacts_count + 1,
            problems=problems_payload(self._spec.campaign_id, problems),
            problems_count=len(problems),
            counts=self.counts,
            last=last,
        )
        self._problems_before += len(problems)
        self._problems = []
        return batch

    def _too_many_rows(self) -> ContactFileError:
        rows_max = self._spec.limits.rows_max
        return ContactFileError(
            "TOO_MANY_ROWS",
            "file",
            f"The file has more than {rows_max:,} rows; split it.",
            {"rows_max": str(rows_max)},
        )


def _field_fault(
    row: list[str], field_bytes_max: int, maybe_undecoded: bool
) -> tuple[int, RowReason] | None:
    """The first field that can't be stored, and why."""
    # A character has at most four bytes: short rows need no encoding to be sure.
    if not maybe_undecoded and 4 * max(map(len, row)) <= field_bytes_max:
        return None
    for index, value in enumerate(row):
        if maybe_undecoded and is_undecoded(value):
            return index, RowReason.UNDECODABLE
        if len(value.encode("utf-8", "surrogateescape")) > field_bytes_max:
            return index, RowReason.FIELD_TOO_LONG
    return None

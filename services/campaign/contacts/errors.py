"""What can be wrong with a file, with its mapping, and with one of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from outreach.errors import OutreachError, Violation


class ContactFileError(OutreachError):
    """The whole file is refused.

    `reason` is a name of `outreach.v1.ErrorReason`, `field` the part of the request at fault. With
    FILE_MALFORMED, metadata `problem` is one of UNCLOSED_QUOTE, ROW_TOO_LONG, UNDECODABLE and `row`
    says where.
    """

    def __init__(
        self, reason: str, field: str, text: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            reason, text, metadata=metadata, violations=[Violation(field, reason, text)]
        )
        self.field = field


class RowReason(StrEnum):
    """Why one row of a file gave no contact."""

    RAGGED = "ROW_RAGGED"
    QUOTE_MALFORMED = "ROW_QUOTE_MALFORMED"
    UNDECODABLE = "ROW_UNDECODABLE"
    FIELD_TOO_LONG = "ROW_FIELD_TOO_LONG"
    RECIPIENT_MISSING = "ROW_RECIPIENT_MISSING"
    INVALID_RECIPIENT = "ROW_INVALID_RECIPIENT"
    DUPLICATE = "ROW_DUPLICATE"


@dataclass(frozen=True, slots=True)
class ContactProblem:
    """One row that gave no contact.

    `row_number` is what a spreadsheet shows: from 1, the header and blank rows counted, a field
    with line breaks being one row. `column_name` is empty when the whole row is meant. `detail` is
    a sentence without any value of the row.
    """

    ordinal: int
    row_number: int
    column_name: str
    reason: RowReason
    detail: str


@dataclass(frozen=True, slots=True)
class ContactLimits:
    """How much of a file is accepted (product rules: "Limits")."""

    rows_max: int = 300_000
    file_bytes_max: int = 50_000_000
    columns_max: int = 64
    field_bytes_max: int = 4_096

    @property
    def row_characters_max(self) -> int:
        """No row within the limits is longer: every field at its limit, quoted, with a
        delimiter.
        """
        return self.columns_max * (self.field_bytes_max + 3)

    @property
    def open_quote_characters_max(self) -> int:
        """A quoted field with line breaks that goes on for longer than this was never meant to be
        one field.
        """
        return 8 * self.field_bytes_max

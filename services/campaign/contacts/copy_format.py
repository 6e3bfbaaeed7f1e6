"""PostgreSQL's binary COPY format for the two tables an import fills.

Binary, because nothing has to be escaped: every field is its length (int32) and its bytes. Source:
PostgreSQL's documentation of COPY, "Binary Format", and array_recv for `text[]`.
"""

import struct
from collections.abc import Iterable, Sequence
from uuid import UUID

from services.campaign.contacts.errors import ContactProblem

CONTACT_TABLE = "contact"
CONTACT_COLUMNS = ("campaign_id", "number", "recipient", "recipient_hash", "variables")
PROBLEM_TABLE = "contact_problem"
PROBLEM_COLUMNS = ("campaign_id", "ordinal", "row_number", "column_name", "reason", "detail")

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)

_NULL = struct.pack(">i", -1)
_TEXT_OID = 25
_int32 = struct.Struct(">i").pack
# Lengths up to the usual field limit, packed once: a look-up costs a quarter of a pack.
_LENGTHS = [_int32(length) for length in range(4_097)]


class ContactEncoder:
    """Collects rows of `contact`; `take` gives them as one COPY payload and starts afresh."""

    def __init__(self, campaign_id: UUID, variables: int) -> None:
        self._row_start = (
            struct.pack(">hi", len(CONTACT_COLUMNS), 16) + campaign_id.bytes + _int32(4)
        )
        # Dimensions, "may hold NULLs", element type; then length and lower bound of the one
        # dimension.
        dimensions = struct.pack(">ii", variables, 1) if variables else b""
        self._array_start = struct.pack(">iii", min(1, variables), 1, _TEXT_OID) + dimensions
        self._parts: list[bytes] = []
        self.rows = 0

    def add(
        self, number: int, recipient: str, recipient_hash: bytes, variables: Iterable[str]
    ) -> None:
        """One contact. A variable of "" is stored as NULL: no value."""
        to = recipient.encode()
        array = [self._array_start]
        for value in variables:
            if value:
                data = value.encode()
                array += (_length(data), data)
            else:
                array.append(_NULL)
        packed = b"".join(array)
        self._parts += (
            self._row_start,
            _int32(number),
            _length(to),
            to,
            _length(recipient_hash),
            recipient_hash,
            _length(packed),
            packed,
        )
        self.rows += 1

    def take(self) -> bytes:
        """A whole COPY payload, header and trailer included; b"" without rows."""
        payload = b"".join((COPY_HEADER, *self._parts, COPY_TRAILER)) if self.rows else b""
        self._parts.clear()
        self.rows = 0
        return payload


def problems_payload(campaign_id: UUID, problems: Sequence[ContactProblem]) -> bytes:
    """Rows of `contact_problem` as one COPY payload; b"" without problems."""
    if not problems:
        return b""
    row_start = struct.pack(">hi", len(PROBLEM_COLUMNS), 16) + campaign_id.bytes
    four = _int32(4)
    parts = [COPY_HEADER]
    for problem in problems:
        parts += (row_start, four, _int32(problem.ordinal), four, _int32(problem.row_number))
        for text in (problem.column_name, problem.reason, problem.detail):
            data = text.encode()
            parts += (_length(data), data)
    parts.append(COPY_TRAILER)
    return b"".join(parts)


def _length(data: bytes) -> bytes:
    size = len(data)
    return _LENGTHS[size] if size < len(_LENGTHS) else _int32(size)

"""The columns of exports, and which of them a caller wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from outreach.errors import OutreachError, Violation

VARIABLE_PREFIX = "variable."


class Kind(Enum):
    """What a column's cells may hold."""

    #: A number, a time or a word of ours, or nothing: no letter of it has a meaning in CSV.
    PLAIN = 1
    #: Anything; stands in quotes.
    TEXT = 2


@dataclass(frozen=True, slots=True)
class Column:
    """`place` is that of the cell in a row as the store gives it, from 1."""

    name: str
    kind: Kind
    place: int


def _columns(*kinds: tuple[str, Kind]) -> tuple[Column, ...]:
    return tuple(Column(name, kind, place) for place, (name, kind) in enumerate(kinds, 1))


#: As `copy_messages` in services/export/store/exports.sql gives them; variables follow.
MESSAGE_COLUMNS = _columns(
    ("number", Kind.PLAIN),
    ("recipient", Kind.TEXT),
    ("status", Kind.PLAIN),
    ("failure_reason", Kind.PLAIN),
    ("provider_code", Kind.TEXT),
    ("provider_message_id", Kind.TEXT),
    ("run", Kind.PLAIN),
    ("attempt", Kind.PLAIN),
    ("segments", Kind.PLAIN),
    ("claim_time", Kind.PLAIN),
    ("update_time", Kind.PLAIN),
)

#: As `copy_campaigns` gives them.
CAMPAIGN_COLUMNS = _columns(
    ("id", Kind.PLAIN),
    ("name", Kind.TEXT),
    ("description", Kind.TEXT),
    ("channel", Kind.PLAIN),
    ("status", Kind.PLAIN),
    ("run", Kind.PLAIN),
    ("total", Kind.PLAIN),
    ("waiting", Kind.PLAIN),
    ("queued", Kind.PLAIN),
    ("sending", Kind.PLAIN),
    ("sent", Kind.PLAIN),
    ("retrying", Kind.PLAIN),
    ("delivered", Kind.PLAIN),
    ("assumed_delivered", Kind.PLAIN),
    ("failed", Kind.PLAIN),
    ("opted_out", Kind.PLAIN),
    ("cancelled", Kind.PLAIN),
    ("create_time", Kind.PLAIN),
    ("start_time", Kind.PLAIN),
    ("stop_time", Kind.PLAIN),
    ("end_time", Kind.PLAIN),
    ("failure_reason", Kind.PLAIN),
)


def message_columns(variable_names: Sequence[str]) -> tuple[Column, ...]:
    """All columns of a campaign's messages, its custom variables last."""
    first = len(MESSAGE_COLUMNS) + 1
    variables = (
        Column(f"{VARIABLE_PREFIX}{name}", Kind.TEXT, place)
        for place, name in enumerate(variable_names, first)
    )
    return (*MESSAGE_COLUMNS, *variables)


def chosen(asked: Sequence[str], known: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that are asked for, in that order; all when none is.

    Raises:
        OutreachError: EXPORT_COLUMN_UNKNOWN, INVALID_REQUEST for one that is asked for twice.
    """
    if not asked:
        return tuple(known)
    by_name = {column.name: column for column in known}
    unknown = [index for index, name in enumerate(asked) if name not in by_name]
    if unknown:
        text = f"There is no such column; there are {', '.join(by_name)}."
        raise OutreachError(
            "EXPORT_COLUMN_UNKNOWN",
            text,
            violations=[
                Violation(f"columns[{index}]", "EXPORT_COLUMN_UNKNOWN", text) for index in unknown
            ],
        )
    twice = [index for index, name in enumerate(asked) if name in asked[:index]]
    if twice:
        raise OutreachError.invalid(
            *(
                Violation(f"columns[{index}]", "FIELD_INVALID", "Name each column once.")
                for index in twice
            )
        )
    return tuple(by_name[name] for name in asked)

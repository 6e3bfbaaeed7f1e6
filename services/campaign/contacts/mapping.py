"""What each column of a file is for, and the rules of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from outreach.errors import Violation
from services.campaign.contacts.variables import (
    VARIABLE_NAME_CHARACTERS_MAX,
    derive_variable_names,
    is_variable_name,
)


class ColumnRole(IntEnum):
    """What a column is used for; the numbers of `outreach.v1.ColumnRole`."""

    DESTINATION = 1
    CUSTOM_VARIABLE = 2
    DO_NOT_IMPORT = 3


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """One column's part in a mapping.

    `name` is the column's name in the file; "" in a request means the column at this place.
    `variable_name` belongs to a CUSTOM_VARIABLE; "" in a request means the name derived from the
    header.
    """

    name: str
    role: ColumnRole
    variable_name: str = ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A valid mapping: one entry a column of the file, in the file's order."""

    columns: tuple[ColumnMapping, ...]

    @property
    def destination_index(self) -> int:
        """The column of the recipients."""
        return next(
            i for i, column in enumerate(self.columns) if column.role is ColumnRole.DESTINATION
        )

    @property
    def variable_indexes(self) -> tuple[int, ...]:
        """The columns of the custom variables, in the file's order: the order of a contact's
        `variables`.
        """
        return tuple(
            i for i, column in enumerate(self.columns) if column.role is ColumnRole.CUSTOM_VARIABLE
        )

    @property
    def variable_names(self) -> tuple[str, ...]:
        """The names that go with `variable_indexes`."""
        return tuple(self.columns[i].variable_name for i in self.variable_indexes)


def resolve_mapping(
    entries: Sequence[ColumnMapping],
    columns: Sequence[str],
    *,
    field: str = "mapping.columns",
) -> tuple[Mapping | None, list[Violation]]:
    """A mapping as given, held against the names of the file's columns.

    Entries come in the order of the columns, or name them; columns without an entry are not
    imported. Returns the mapping, or None and every violation, each with the path of its field
    (`mapping.columns[2].variable_name`).
    """
    violations: list[Violation] = []
    placed = _place(entries, columns, field, violations)
    destinations = [at for at, index in placed if entries[at].role is ColumnRole.DESTINATION]
    if not destinations:
        violations.append(
            Violation(
                field,
                "MAPPING_NO_DESTINATION",
                "No column is the destination; give one the role DESTINATION.",
            )
        )
    violations += [
        Violation(
            f"{field}[{at}].role",
            "MAPPING_SEVERAL_DESTINATIONS",
            "Another column is the destination already; only one can be.",
        )
        for at in destinations[1:]
    ]
    names = _variable_names(entries, columns, placed, field, violations)
    if violations:
        return None, violations
    resolved = [ColumnMapping(name, ColumnRole.DO_NOT_IMPORT) for name in columns]
    for at, index in placed:
        resolved[index] = ColumnMapping(columns[index], entries[at].role, names.get(at, ""))
    return Mapping(tuple(resolved)), []


def _place(
    entries: Sequence[ColumnMapping],
    columns: Sequence[str],
    field: str,
    violations: list[Violation],
) -> list[tuple[int, int]]:
    """(entry, column) for each entry that names a column of the file, each column once."""
    placed: list[tuple[int, int]] = []
    used: set[int] = set()
    for at, entry in enumerate(entries):
        index = _column_index(at, entry.name, columns)
        if index is None:
            reason = "MAPPING_UNKNOWN_COLUMN"
            text = "The file has no such column; take a name from the upload's columns."
            if columns.count(entry.name) > 1:
                text = "Several columns have this name; give all columns in the file's order."
            violations.append(Violation(f"{field}[{at}].name", reason, text))
        elif index in used:
            violations.append(
                Violation(
                    f"{field}[{at}].name",
                    "MAPPING_DUPLICATE_COLUMN",
                    "This column is mapped already; map each column once.",
                )
            )
        else:
            used.add(index)
            placed.append((at, index))
    return placed


def _column_index(at: int, name: str, columns: Sequence[str]) -> int | None:
    if at < len(columns) and name in ("", columns[at]):
        return at
    if name and columns.count(name) == 1:
        return columns.index(name)
    return None


def _variable_names(
    entries: Sequence[ColumnMapping],
    columns: Sequence[str],
    placed: Sequence[tuple[int, int]],
    field: str,
    violations: list[Violation],
) -> dict[int, str]:
    """The variable's name of each entry that is one."""
    derived = derive_variable_names(columns)
    names: dict[int, str] = {}
    for at, index in placed:
        if entries[at].role is not ColumnRole.CUSTOM_VARIABLE:
            continue
        name = entries[at].variable_name or derived[index]
        path = f"{field}[{at}].variable_name"
        if not is_variable_name(name):
            rule = (
                "A variable's name has letters, digits and _, no digit first, "
                f"and at most {VARIABLE_NAME_CHARACTERS_MAX} characters."
            )
            violations.append(Violation(path, "VARIABLE_NAME_INVALID", rule))
        elif name in names.values():
            violations.append(
                Violation(
                    path,
                    "VARIABLE_NAME_DUPLICATE",
                    "Another column has this variable name; give each its own.",
                )
            )
        else:
            names[at] = name
    return names

import pytest

from services.campaign.contacts.mapping import ColumnMapping, ColumnRole, resolve_mapping

TO, VAR, NOT = ColumnRole.DESTINATION, ColumnRole.CUSTOM_VARIABLE, ColumnRole.DO_NOT_IMPORT
COLUMNS = ["phone", "First Name", "city"]
TWICE = ["phone", "name", "name"]


def col(name: str, role: ColumnRole, variable: str = "") -> ColumnMapping:
    return ColumnMapping(name, role, variable)


@pytest.mark.parametrize(
    ("entries", "columns", "destination", "variables"),
    [
        ([col("", TO), col("", VAR, "name"), col("", NOT)], COLUMNS, 0, {1: "name"}),
        ([col("phone", TO)], COLUMNS, 0, {}),
        ([col("city", VAR, "town"), col("phone", TO)], COLUMNS, 0, {2: "town"}),
        ([col("phone", TO), col("First Name", VAR)], COLUMNS, 0, {1: "First_Name"}),
        ([col("phone", NOT), col("", TO)], COLUMNS, 1, {}),
        (
            [col("phone", TO), col("name", VAR), col("name", VAR)],
            TWICE,
            0,
            {1: "name", 2: "name_2"},
        ),
    ],
)
def test_mappings(
    entries: list[ColumnMapping], columns: list[str], destination: int, variables: dict[int, str]
) -> None:
    mapping, violations = resolve_mapping(entries, columns)
    assert violations == []
    assert mapping is not None
    assert mapping.destination_index == destination
    assert dict(zip(mapping.variable_indexes, mapping.variable_names, strict=True)) == variables
    assert [column.name for column in mapping.columns] == columns


@pytest.mark.parametrize(
    ("entries", "columns", "expected"),
    [
        ([], COLUMNS, [("m", "MAPPING_NO_DESTINATION")]),
        ([col("city", VAR)], COLUMNS, [("m", "MAPPING_NO_DESTINATION")]),
        (
            [col("phone", TO), col("city", TO)],
            COLUMNS,
            [("m[1].role", "MAPPING_SEVERAL_DESTINATIONS")],
        ),
        (
            [col("phone", TO), col("town", VAR)],
            COLUMNS,
            [("m[1].name", "MAPPING_UNKNOWN_COLUMN")],
        ),
        (
            [col("", TO), col("", NOT), col("", NOT), col("", VAR)],
            COLUMNS,
            [("m[3].name", "MAPPING_UNKNOWN_COLUMN")],
        ),
        ([col("name", VAR), col("phone", TO)], TWICE, [("m[0].name", "MAPPING_UNKNOWN_COLUMN")]),
        (
            [col("phone", TO), col("phone", VAR)],
            COLUMNS,
            [("m[1].name", "MAPPING_DUPLICATE_COLUMN")],
        ),
        (
            [col("phone", TO), col("city", VAR, "a"), col("First Name", VAR, "a")],
            COLUMNS,
            [("m[2].variable_name", "VARIABLE_NAME_DUPLICATE")],
        ),
        *[
            (
                [col("phone", TO), col("city", VAR, name)],
                COLUMNS,
                [("m[1].variable_name", "VARIABLE_NAME_INVALID")],
            )
            for name in ("1x", "a b", "größe", "a-b", "{{a}}", "a\n", "x" * 65)
        ],
        # Every one of them, not only the first.
        (
            [col("x", TO), col("city", VAR, "1"), col("y", VAR)],
            COLUMNS,
            [
                ("m[0].name", "MAPPING_UNKNOWN_COLUMN"),
                ("m[2].name", "MAPPING_UNKNOWN_COLUMN"),
                ("m", "MAPPING_NO_DESTINATION"),
                ("m[1].variable_name", "VARIABLE_NAME_INVALID"),
            ],
        ),
    ],
)
def test_violations(
    entries: list[ColumnMapping], columns: list[str], expected: list[tuple[str, str]]
) -> None:
    mapping, violations = resolve_mapping(entries, columns, field="m")
    assert mapping is None
    assert [(violation.field, violation.reason) for violation in violations] == expected
    assert all(violation.text for violation in violations)


def test_names_are_told_apart_by_case() -> None:
    entries = [col("phone", TO), col("city", VAR, "a"), col("First Name", VAR, "A")]
    mapping, _ = resolve_mapping(entries, COLUMNS)
    assert mapping is not None
    assert mapping.variable_names == ("A", "a")

import pytest
import typer

from outreach.cli.contacts import choose_columns, parse_column
from outreach.v1 import campaign_pb2, contact_pb2

DESTINATION = campaign_pb2.COLUMN_ROLE_DESTINATION
VARIABLE = campaign_pb2.COLUMN_ROLE_CUSTOM_VARIABLE
SKIP = campaign_pb2.COLUMN_ROLE_DO_NOT_IMPORT

FOUND = [
    contact_pb2.UploadColumn(name="phone", suggested_role=DESTINATION),
    contact_pb2.UploadColumn(name="mobile", suggested_role=SKIP),
    contact_pb2.UploadColumn(name="City", suggested_role=VARIABLE, suggested_variable_name="city"),
]


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("phone=destination", campaign_pb2.ContactColumn(name="phone", role=DESTINATION)),
        ("notes=skip", campaign_pb2.ContactColumn(name="notes", role=SKIP)),
        ("a=b=skip", campaign_pb2.ContactColumn(name="a=b", role=SKIP)),
        (
            "First name=variable:name",
            campaign_pb2.ContactColumn(name="First name", role=VARIABLE, variable_name="name"),
        ),
    ],
)
def test_a_column_option_says_a_role(text: str, column: campaign_pb2.ContactColumn) -> None:
    assert parse_column(text) == column


@pytest.mark.parametrize("text", ["", "phone", "=skip", "phone=", "phone=variable:", "phone=to"])
def test_a_column_option_without_a_role_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_column(text)


def roles(*given: str) -> list[tuple[str, int, str]]:
    chosen = choose_columns(FOUND, [parse_column(text) for text in given])
    return [(column.name, column.role, column.variable_name) for column in chosen]


def test_columns_that_are_not_named_keep_the_suggestion() -> None:
    assert roles("City=variable:town") == [
        ("phone", DESTINATION, ""),
        ("mobile", SKIP, ""),
        ("City", VARIABLE, "town"),
    ]


def test_a_given_destination_replaces_the_suggested_one() -> None:
    assert roles("mobile=destination") == [
        ("phone", SKIP, ""),
        ("mobile", DESTINATION, ""),
        ("City", VARIABLE, "city"),
    ]


def test_a_column_that_the_file_lacks_is_left_to_the_service_to_refuse() -> None:
    assert ("town", SKIP, "") in roles("town=skip")

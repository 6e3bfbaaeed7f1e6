"""The words and their numbers are the same in the code, the protos and the tables."""

import re
from enum import IntEnum

import asyncpg
import pytest

from outreach import vocabulary
from outreach.rpc.errors import CATALOGUE
from outreach.v1.error_reason_pb2 import ErrorReason
from scripts.proto_sources import blocks

ENUMS = {
    block.name: {item.name: item.number for item in block.items}
    for package in ("outreach.v1", "outreach.internal.v1")
    for block in blocks(package)
    if block.kind == "enum"
}
#: Proto enums that the domain has no use for.
WIRE_ONLY = {
    "Alignment",
    "ClaimState",
    "ColumnRole",
    "ErrorReason",
    "OptOutAction",
    "SmsEncoding",
}
#: Vocabulary that is not on the wire.
STORE_ONLY = {"Role"}
WORDS = {
    name: value
    for name, value in vars(vocabulary).items()
    if isinstance(value, type) and issubclass(value, IntEnum) and value is not IntEnum
}


def _in_proto(name: str) -> dict[str, int]:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() + "_"
    values = {key.removeprefix(prefix): number for key, number in ENUMS[name].items()}
    assert values.pop("UNSPECIFIED") == 0
    return values


def test_no_enum_is_forgotten() -> None:
    assert set(WORDS) - STORE_ONLY == set(ENUMS) - WIRE_ONLY


@pytest.mark.parametrize("name", sorted(set(WORDS) - STORE_ONLY))
def test_names_and_numbers_are_those_of_the_proto(name: str) -> None:
    assert {word.name: word.value for word in WORDS[name]} == _in_proto(name)


def test_the_error_catalogue_is_complete() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    assert set(CATALOGUE) == names - {"UNSPECIFIED"}


#: Table and column of each CHECK on an enum, with the words it has to allow.
CHECKS = {
    ("api_key", "role"): vocabulary.Role,
    ("provider_account", "channel"): vocabulary.Channel,
    ("campaign", "channel"): vocabulary.Channel,
    ("campaign", "missing_variable_policy"): vocabulary.MissingVariablePolicy,
    ("campaign", "status"): vocabulary.CampaignStatus,
    ("campaign", "failure_reason"): vocabulary.FailureReason,
    ("message", "status"): vocabulary.MessageStatus,
    ("message", "failure_reason"): vocabulary.FailureReason,
    ("suppression", "channel"): vocabulary.Channel,
}


async def test_the_tables_allow_exactly_these_numbers(database_dsn: str) -> None:
    connection = await asyncpg.connect(database_dsn)
    try:
        for (table, column), words in CHECKS.items():
            definitions = await connection.fetch(
                "SELECT pg_get_expr(k.conbin, k.conrelid) AS rule FROM pg_constraint k"
                " JOIN pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]"
                " WHERE k.contype = 'c' AND k.conrelid = $1::regclass AND a.attname = $2",
                table,
                column,
            )
            assert definitions, f"{table}.{column} has no CHECK of its own"
            rules = " AND ".join(f"({row['rule']})" for row in definitions)
            allowed = await connection.fetch(
                f"SELECT n FROM (SELECT n::smallint AS n, n::smallint AS {column}"
                f" FROM generate_series(-1, 100) AS n) AS numbers WHERE {rules} ORDER BY n"
            )
            assert [row["n"] for row in allowed] == [word.value for word in words], (table, column)
    finally:
        await connection.close()


async def test_the_counts_of_a_campaign_are_the_message_statuses(database_dsn: str) -> None:
    connection = await asyncpg.connect(database_dsn)
    try:
        rule = await connection.fetchval(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'campaign_counts_add_up'"
        )
    finally:
        await connection.close()
    left = rule.partition("=")[0]
    assert re.findall(r"[a-z_]{4,}", left) == [
        status.name.lower() for status in vocabulary.MessageStatus
    ]

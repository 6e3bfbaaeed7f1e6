import csv
import io

import phonenumbers
import pytest

from outreach.local.example_contacts import (
    BODY,
    CONTACTS_MAX,
    ExampleContacts,
    example_contacts,
)
from outreach.vocabulary import Channel
from services.campaign.contacts.destinations import normalise_email

COLUMNS = 5


def data_rows(example: ExampleContacts) -> list[list[str]]:
    header, *rows = csv.reader(io.StringIO(example.csv_bytes.decode(), newline=""))
    assert header[0] in ("phone", "email")
    assert len(header) == COLUMNS
    return rows


def test_the_same_seed_makes_the_same_file() -> None:
    assert example_contacts(300, seed=7) == example_contacts(300, seed=7)
    assert example_contacts(300, seed=7).csv_bytes != example_contacts(300, seed=8).csv_bytes


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("count", [1, 2_000, 20_000])
def test_it_has_what_it_says(count: int, channel: Channel) -> None:
    example = example_contacts(count, channel=channel)
    rows = data_rows(example)
    assert len(example.recipients) == len({to.lower() for to in example.recipients}) == count
    assert len(rows) == count + example.invalid + example.duplicates
    people = {row[0]: row for row in reversed(rows) if len(row) == COLUMNS}
    known = [people[recipient] for recipient in example.recipients]
    assert sum(not row[2] for row in known) == example.without_city
    unusable = [row for row in rows if row[0] not in people or len(row) != COLUMNS]
    known_too = {to.lower() for to in example.recipients}
    strangers = {to for to in people if to.lower() not in known_too}
    assert len([row for row in rows if row[0] in strangers]) + len(unusable) == example.invalid


def test_a_demo_has_something_of_everything() -> None:
    example = example_contacts(2_000)
    assert example.invalid
    assert example.duplicates
    assert example.without_city
    text = example.csv_bytes.decode()
    assert any(ord(letter) > 0x7F for letter in text)
    assert '"two lines\nin one cell"' in text
    assert "{{city}}" in BODY  # no fallback: a contact without a city lacks a value


def test_the_numbers_are_possible_and_nobodys() -> None:
    for recipient in example_contacts(2_000).recipients:
        assert recipient[5:10] == "55501"
        assert phonenumbers.is_possible_number(phonenumbers.parse(recipient))


def test_the_addresses_are_valid_and_nobodys() -> None:
    found = example_contacts(2_000, channel=Channel.EMAIL).recipients
    for recipient in found:
        assert recipient.lower().partition("@")[2] in ("example.com", "example.net", "example.org")
        assert normalise_email(recipient) is not None
    assert any(to != to.lower() for to in found)


@pytest.mark.parametrize("count", [0, CONTACTS_MAX + 1])
def test_too_few_and_too_many_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="count must be"):
        example_contacts(count)

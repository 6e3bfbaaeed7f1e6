"""The demo's CSV files: made-up people, and everything a real file has wrong with it.

Deterministic: the same channel, count and seed give the same bytes. Numbers are of North America's
555 exchange, which belongs to nobody; the first hundred lines of each area are kept for fiction.
Addresses are of the domains that RFC 2606 keeps for examples.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

from outreach.vocabulary import Channel

_DESTINATION_COLUMNS = {Channel.SMS: "phone", Channel.EMAIL: "email"}
_OTHER_COLUMNS = ("first_name", "city", "appointment", "notes")
BODY = (
    "Hi {{first_name|there}}, your appointment at our {{city}} office is on {{appointment}}."
    " Reply STOP to opt out."
)
CONTACTS_MAX = 290_000

_AREA_CODES = (
    *(201, 202, 203, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 219, 224),
    *(225, 228, 229, 231, 234, 239, 240, 248, 251, 252, 253, 254, 256, 260, 262, 267, 269, 270),
)
_FICTION_LINES = range(100, 200)
_OTHER_LINES = range(200, 10_000)

# GSM-7 and UCS-2, one letter to many, right to left: what names really are.
_FIRST_NAMES = (
    *("Ada", "Ben", "Carla", "David", "Emma", "Finn", "Grace", "Hugo", "Ines", "Jack", "Kate"),
    *("Liam", "Mia", "Noah", "Olivia", "Paul", "Quinn", "Rosa", "Sam", "Tess", "Uma", "Victor"),
    *("Zoë", "José", "Søren", "Jürgen", "François", "Łukasz", "Þóra", "Ολυμπία", "Олена", "李娜"),
    *("さくら", "지우", "أمل", "O'Brien", "Anne-Marie", "Xi"),
)
_CITIES = ("Lisbon", "Zürich", "Kraków", "New York", "Reykjavík", "São Paulo", "Leeds", "Nice")
_NOTES = ("", "", "", "prefers mornings", 'says "hi"', "two lines\nin one cell", "a, b and c")
_BAD_DESTINATIONS = {
    Channel.SMS: (
        *("", "unknown", "(415) 555-0123", "0044 20 7946 0000", "+1", "+1415555012345678"),
    ),
    Channel.EMAIL: ("", "unknown", "ada@", "@example.com", "ada example.com", "a@b@example.org"),
}
_DOMAINS = ("example.com", "example.net", "example.org")
_UNNAMED_EVERY = 25
_WITHOUT_CITY_EVERY = 40
_BAD_EVERY = 50
_DUPLICATE_EVERY = 80
_RAGGED_EVERY = 400
_CAPITALS_EVERY = 60


@dataclass(frozen=True)
class ExampleContacts:
    """The file, and what an import of it must find.

    Attributes:
        csv_bytes: UTF-8 with a header row.
        recipients: of the valid contacts, in the order of the file.
        invalid: rows with an unusable destination or too many cells.
        duplicates: rows whose destination was seen before.
        without_city: valid contacts that lack a value without fallback.
    """

    csv_bytes: bytes
    recipients: tuple[str, ...]
    invalid: int
    duplicates: int
    without_city: int


def example_contacts(count: int, seed: int = 1, channel: Channel = Channel.SMS) -> ExampleContacts:
    """A file with `count` valid contacts (1 to `CONTACTS_MAX`) among bad rows and duplicates."""
    if not 1 <= count <= CONTACTS_MAX:
        raise ValueError(f"count must be from 1 to {CONTACTS_MAX:,}")
    chance = random.Random(seed)
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow((_DESTINATION_COLUMNS[channel], *_OTHER_COLUMNS))
    recipients: list[str] = []
    invalid = duplicates = without_city = 0
    some = _numbers if channel is Channel.SMS else _addresses
    for recipient in some(count, chance):
        recipients.append(recipient)
        number = len(recipients)
        person = _person(chance, named=number % _UNNAMED_EVERY != 0)
        if number % _WITHOUT_CITY_EVERY == 0:
            person[1] = ""
            without_city += 1
        rows.writerow([recipient, *person])
        if number % _BAD_EVERY == 0:
            rows.writerow([chance.choice(_BAD_DESTINATIONS[channel]), *_person(chance)])
            invalid += 1
        if number % _RAGGED_EVERY == 0:
            rows.writerow([recipient, *_person(chance), "one", "cell", "too", "many"])
            invalid += 1
        if number % _DUPLICATE_EVERY == 0:
            again = chance.choice(recipients)
            rows.writerow([again.upper(), *_person(chance)])
            duplicates += 1
    return ExampleContacts(
        csv_bytes=text.getvalue().encode(),
        recipients=tuple(recipients),
        invalid=invalid,
        duplicates=duplicates,
        without_city=without_city,
    )


def _addresses(count: int, chance: random.Random) -> Iterator[str]:
    """Different addresses, some in capitals: which count the same."""
    for number in range(1, count + 1):
        address = f"person.{number}@{chance.choice(_DOMAINS)}"
        yield address.title() if number % _CAPITALS_EVERY == 0 else address


def _numbers(count: int, chance: random.Random) -> Iterator[str]:
    """Different numbers, those kept for fiction first."""
    for lines in (_FICTION_LINES, _OTHER_LINES):
        numbers = [f"+1{area}555{line:04}" for area in _AREA_CODES for line in lines]
        chance.shuffle(numbers)
        yield from numbers[:count]
        count -= len(numbers)
        if count <= 0:
            return


def _person(chance: random.Random, *, named: bool = True) -> list[str]:
    """First name, city, appointment and notes."""
    day = f"{chance.randint(1, 28)} {chance.choice(('March', 'April', 'May'))}"
    name = chance.choice(_FIRST_NAMES) if named else ""
    return [name, chance.choice(_CITIES), day, chance.choice(_NOTES)]

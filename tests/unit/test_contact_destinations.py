"""The quick checks give the libraries' own answers."""

import random
import re

import email_validator
import phonenumbers
import pytest
from phonenumbers.phonemetadata import PhoneMetadata

from outreach.vocabulary import Channel
from services.campaign.contacts.destinations import (
    destination_check,
    is_possible_sms_number,
    normalise_email,
)


def library_says(number: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False


@pytest.mark.parametrize(
    "number",
    ["+447700900123", "+12125550123", "+4915123456789", "+390612345678", "+5491123456789"],
)
def test_numbers_that_can_be_sent_to(number: str) -> None:
    assert is_possible_sms_number(number)


@pytest.mark.parametrize(
    "number",
    [
        "",
        "+",
        "447700900123",
        "00447700900123",
        "07700900123",
        "+44 7700 900123",
        " +447700900123",
        "+447700900123 ",
        "+447700900123\n",
        "+44-7700-900123",
        "+44(0)7700900123",
        "+44770090012a",
        "++447700900123",
        "+0447700900123",
        "+1234567890123456",
        "+447700900123x1",
        "+٤٤٧٧٠٠٩٠٠١٢٣",  # digits, but not ASCII ones
        "＋447700900123",
        "tel:+447700900123",
        "+1",
        "+12",
        "+44",
        "+4477",
        "+999123456789",
        "+210123456789",
        "+121255501234",
    ],
)
def test_numbers_that_cannot(number: str) -> None:
    assert not is_possible_sms_number(number)


def test_possible_is_what_phonenumbers_says_for_every_country_code_and_length() -> None:
    """Every country code, every length, and leading digits that may be a national prefix."""
    random_ = random.Random(20261123)
    starts = [str(digit) for digit in range(10)] + ["00", "01", "15", "10", "11", "18", "19", "90"]
    differing = []
    for country_code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        for length in range(1, 16 - len(str(country_code))):
            for start in [*random_.sample(starts, 5), "0"]:
                rest = "".join(random_.choices("0123456789", k=15))
                number = f"+{country_code}{(start + rest)[:length]}"
                if is_possible_sms_number(number) != library_says(number):
                    differing.append(number)
    assert differing == []


def test_possible_is_what_phonenumbers_says_where_national_prefixes_are_stripped() -> None:
    """Numbers that begin with something each plan's own prefix rule matches."""
    random_ = random.Random(7)
    differing, matched = [], 0
    for country_code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        plan = PhoneMetadata.metadata_for_region_or_calling_code(country_code, regions[0])
        assert plan is not None
        rule = plan.national_prefix_for_parsing
        if not rule:
            continue
        for prefix in prefixes_for(rule, random_):
            for length in range(1, 16 - len(str(country_code))):
                rest = "".join(random_.choices("0123456789", k=15))
                number = f"+{country_code}{(prefix + rest)[:length]}"
                matched += 1
                if is_possible_sms_number(number) != library_says(number):
                    differing.append(number)
    assert differing == []
    assert matched > 1_000


def prefixes_for(rule: str, random_: random.Random) -> set[str]:
    """Strings of digits that the rule takes at least a part of."""
    pattern = re.compile(rule)
    found: set[str] = set()
    for _ in range(400):
        digits = "".join(random_.choices("0123456789", k=random_.randint(1, 11)))
        digits = random_.choice(["", "0", "1", "8", "01", "015", "18", "10"]) + digits
        match = pattern.match(digits)
        if match and match.end() > 0:
            found.add(match.group())
        if len(found) >= 6:
            break
    return found


EMAILS = [
    "ann@example.com",
    "Ann.O'Brien+x@Example.COM",
    "a@b.co",
    "ann@bücher.example",
    "jörg@example.com",
    "Postmaster@example.com",
    "INFO@example.com",
    "info@EXAMPLE.com",
    "",
    "ann",
    "ann@",
    "@example.com",
    "ann@@example.com",
    "ann@example",
    "ann@localhost",
    "ann@example.test",
    "ann@[127.0.0.1]",
    "a b@example.com",
    " ann@example.com",
    "ann@example.com ",
    "ann@example.com\n",
    ".ann@example.com",
    "ann.@example.com",
    "a..b@example.com",
    '"a b"@example.com',
    "Ann <ann@example.com>",
    "ann@exa_mple.com",
    "ann@-example.com",
    "ann@example..com",
    "ann@example.com.",
    "ann@1.2.3.4",
    "a" * 64 + "@example.com",
    "a" * 65 + "@example.com",
    "a" * 60 + "@" + "b" * 60 + "." + "c" * 60 + "." + "d" * 60 + ".example.com",
    "a@" + ".".join(["b" * 50] * 4) + ".com",
    "a@" + ".".join(["b" * 60] * 4) + ".comm",
    "aa@" + "b." * 124 + "com",
    "ann@xn--bcher-kva.example",
    "ann@xn--zzzzzz.com",
]


@pytest.mark.parametrize("address", EMAILS)
def test_addresses_are_what_email_validator_says(address: str) -> None:
    try:
        expected = email_validator.validate_email(address, check_deliverability=False).normalized
    except email_validator.EmailNotValidError:
        expected = None
    assert normalise_email(address) == expected


def test_each_channel_has_its_check() -> None:
    assert destination_check(Channel.SMS)("+447700900123") == "+447700900123"
    assert destination_check(Channel.SMS)("ann@example.com") is None
    assert destination_check(Channel.EMAIL)("ann@EXAMPLE.com") == "ann@example.com"
    assert destination_check(Channel.EMAIL)("+447700900123") is None

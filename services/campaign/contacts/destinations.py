"""Whether a destination can be sent to: strict E.164 for SMS, an address in practical RFC 5322 form
for email.

The libraries' own entry points are the import's bottleneck (28 µs a number, 24 µs an address), so
their rules are applied from their own tables here, and whatever these tables can't decide goes to
the library. Tests hold both to the library's answers.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import email_validator
import phonenumbers
from email_validator.rfc_constants import (
    CASE_INSENSITIVE_MAILBOX_NAMES,
    EMAIL_MAX_LENGTH,
    LOCAL_PART_MAX_LENGTH,
)
from phonenumbers.phonemetadata import PhoneMetadata

from outreach.vocabulary import Channel

_is_e164 = re.compile(r"\+[1-9][0-9]{1,14}").fullmatch
_NSN_DIGITS_MIN = 2  # the library's own least length of a number after its country code

#: Why `destination_check` gives None, for people.
INVALID_RECIPIENT = {
    Channel.SMS: (
        "Not a possible phone number in E.164 form: +, country code and number, "
        "at most 15 digits, nothing else."
    ),
    Channel.EMAIL: "Not an email address.",
}


class _NumberingPlan(NamedTuple):
    """What makes a number of one country code possible.

    `lengths` are those of the whole text, `+` and country code included. `strips` matches, from
    `national_start`, what the library may take away as a national prefix, which changes the length:
    such numbers are left to it. (An empty match takes nothing away: no plan's transformation
    applies to one.)
    """

    lengths: frozenset[int]
    strips: Callable[[str, int], re.Match[str] | None] | None
    national_start: int


def is_possible_sms_number(number: str) -> bool:
    """Strict E.164 (`+`, country code, at most 15 digits, nothing else) that `phonenumbers` holds
    possible.
    """
    if _is_e164(number) is None:
        return False
    plan = _plan(number[1:4])
    if plan is None:
        return False
    lengths, strips, national_start = plan
    if strips is not None:
        prefix = strips(number, national_start)
        if prefix is not None and prefix.end() > national_start:
            return _library_says_possible(number)
    return len(number) in lengths


def normalise_email(address: str) -> str | None:
    """The address as it is sent to (domain in lower case, Unicode in NFC), or None when it can't be
    one. No DNS.
    """
    local, _, domain = address.rpartition("@")
    if (
        _is_plain_local_part(local)
        and len(local) <= LOCAL_PART_MAX_LENGTH
        and domain.isascii()
        and local.lower() not in CASE_INSENSITIVE_MAILBOX_NAMES
    ):
        domain = _normalised_domain(domain) or ""
        length = len(local) + 1 + len(domain)
        if domain and length <= EMAIL_MAX_LENGTH:
            return f"{local}@{domain}"
        return None
    return _library_normalises(address)


def spellings(channel: Channel, recipient: str) -> frozenset[str]:
    """The ways, in lower case, to write a recipient that `destination_check` gave: an email's
    domain in Unicode, and as DNS has it.
    """
    if channel is Channel.SMS or recipient.isascii():
        return frozenset({recipient.lower()})
    checked = email_validator.validate_email(recipient, check_deliverability=False)
    local, _, domain = recipient.rpartition("@")
    return frozenset(f"{local}@{each}".lower() for each in (domain, checked.ascii_domain))


def destination_check(channel: Channel) -> Callable[[str], str | None]:
    """The check for a channel: gives the recipient to send to, or None."""
    if channel is Channel.EMAIL:
        return normalise_email
    return lambda number: number if is_possible_sms_number(number) else None


def _library_says_possible(number: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False


@lru_cache(maxsize=1_000)
def _plan(digits: str) -> _NumberingPlan | None:
    """The plan of the country code that the first three digits begin with; codes are
    prefix-free.
    """
    for length in range(1, len(digits) + 1):
        country_code = int(digits[:length])
        regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(country_code)
        if regions is not None:
            return _plan_of(country_code, regions[0], 1 + length)
    return None


@lru_cache(maxsize=300)
def _plan_of(country_code: int, region: str, national_start: int) -> _NumberingPlan:
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(country_code, region)
    if metadata is None or metadata.general_desc is None:
        raise LookupError(f"phonenumbers knows no numbering plan for country code {country_code}")
    general = metadata.general_desc
    possible = (*general.possible_length, *general.possible_length_local_only)
    prefix = metadata.national_prefix_for_parsing
    return _NumberingPlan(
        frozenset(national_start + n for n in possible if n >= _NSN_DIGITS_MIN),
        re.compile(prefix).match if prefix else None,
        national_start,
    )


_is_plain_local_part = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
).fullmatch


@lru_cache(maxsize=10_000)
def _normalised_domain(domain: str) -> str | None:
    normalised = _library_normalises(f"a@{domain}")
    return None if normalised is None else normalised[2:]


def _library_normalises(address: str) -> str | None:
    try:
        return email_validator.validate_email(address, check_deliverability=False).normalized
    except email_validator.EmailNotValidError:
        return None

"""How many segments (parts) an SMS takes: what is billed, and what a sender's rate is counted in.

Source: 3GPP TS 23.038 (GSM 7-bit default alphabet and its extension table) and 23.040 (a part of a
longer message carries a header of six octets); Twilio's own calculator follows the same rules. One
character outside GSM-7 turns the whole message to UCS-2. Neither an extension character (two
septets) nor a surrogate pair is split over two parts, so a part may stay one unit short.
"""

import re
from enum import Enum
from typing import NamedTuple

GSM_7_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_7_EXTENSION = "^{}\\[~]|€\f"

GSM_7_UNITS_SINGLE = 160
GSM_7_UNITS_PART = 153
UCS_2_UNITS_SINGLE = 70
UCS_2_UNITS_PART = 67


class SmsEncoding(Enum):
    """The alphabet a message is sent in."""

    GSM_7 = "GSM-7"
    UCS_2 = "UCS-2"


class SegmentCount(NamedTuple):
    """The size of one message: `units` are GSM-7 septets or UTF-16 code units, headers not
    counted.
    """

    encoding: SmsEncoding
    units: int
    segments: int


_ESCAPE = "\x1b"
_find_not_basic = re.compile(f"[^{re.escape(GSM_7_BASIC)}]").search
_find_not_gsm = re.compile(f"[^{re.escape(GSM_7_BASIC + GSM_7_EXTENSION)}]").search
_escape_extension = {ord(char): _ESCAPE + char for char in GSM_7_EXTENSION}


def segments(text: str) -> SegmentCount:
    """The encoding, units and segments of a message. An empty text counts one segment, as Twilio's
    calculator does.

    Called once a message; text in the basic alphabet costs one regular expression scan.
    """
    if _find_not_basic(text) is None:
        units = len(text)
        parts = 1 if units <= GSM_7_UNITS_SINGLE else -(-units // GSM_7_UNITS_PART)
        return SegmentCount(SmsEncoding.GSM_7, units, parts)
    if _find_not_gsm(text) is None:
        escaped = text.translate(_escape_extension)
        return SegmentCount(SmsEncoding.GSM_7, len(escaped), _gsm_7_parts(escaped))
    units = len(text) + sum(char > "\uffff" for char in text)
    return SegmentCount(SmsEncoding.UCS_2, units, _ucs_2_parts(text, units))


def _gsm_7_parts(escaped: str) -> int:
    units = len(escaped)
    if units <= GSM_7_UNITS_SINGLE:
        return 1
    parts, start = 1, 0
    while units - start > GSM_7_UNITS_PART:
        start += GSM_7_UNITS_PART
        if escaped[start - 1] == _ESCAPE:
            start -= 1
        parts += 1
    return parts


def _ucs_2_parts(text: str, units: int) -> int:
    if units <= UCS_2_UNITS_SINGLE:
        return 1
    if units == len(text):
        return -(-units // UCS_2_UNITS_PART)
    parts, room = 1, UCS_2_UNITS_PART
    for char in text:
        width = 2 if char > "\uffff" else 1
        if width > room:
            parts += 1
            room = UCS_2_UNITS_PART
        room -= width
    return parts

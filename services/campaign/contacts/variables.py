"""Names of variables made from the headers of columns."""

import re
import unicodedata
from collections.abc import Collection, Sequence

from outreach.template.placeholders import VARIABLE_NAME

VARIABLE_NAME_CHARACTERS_MAX = 64

_not_name = re.compile(r"[^A-Za-z0-9_]+").sub

# Latin letters that Unicode does not take apart into a plain letter and an accent.
_plain_letters = str.maketrans(
    {
        "ß": "ss",
        "ø": "o",
        "Ø": "O",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "ı": "i",
    }
)


def is_variable_name(name: str) -> bool:
    """`[A-Za-z_][A-Za-z0-9_]*`, of at most 64 characters."""
    return len(name) <= VARIABLE_NAME_CHARACTERS_MAX and VARIABLE_NAME.fullmatch(name) is not None


def derive_variable_names(headers: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """One unique name a column: accents dropped, other characters to `_`, `column_N` when nothing
    is left.

    A name that is there already, or in `taken`, gets `_2`, `_3`, …; upper and lower case stay as
    they are.
    """
    seen = set(taken)
    names = []
    for number, header in enumerate(headers, 1):
        base = _base_name(header) or f"column_{number}"
        name, suffix = base, 2
        while name in seen:
            ending = f"_{suffix}"
            name = base[: VARIABLE_NAME_CHARACTERS_MAX - len(ending)] + ending
            suffix += 1
        seen.add(name)
        names.append(name)
    return names


def _base_name(header: str) -> str:
    header = header.strip()
    if is_variable_name(header):
        return header
    plain = unicodedata.normalize("NFKD", header.translate(_plain_letters))
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    name = _not_name("_", plain).strip("_")
    if name[:1].isdigit():
        name = f"_{name}"
    return name[:VARIABLE_NAME_CHARACTERS_MAX].rstrip("_")

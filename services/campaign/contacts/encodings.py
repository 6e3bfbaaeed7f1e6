"""Which encoding a file is in, and whether it is text at all."""

import codecs
import re
from itertools import pairwise
from typing import NamedTuple

from charset_normalizer import from_bytes

from services.campaign.contacts.errors import ContactFileError

# What the first bytes say the file is. Text formats that are no CSV are here too: what people
# rename.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a spreadsheet or another ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an XZ archive"),
    (b"\x89PNG\r\n\x1a\n", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"SQLite format 3\x00", "a database"),
    (b"PAR1", "a Parquet file"),
    (b"{\\rtf", "a rich text document"),
)
_MARKUP = re.compile(rb"\s*<(?:\?xml|!doctype|html|table|svg)\b", re.IGNORECASE)

_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: it begins with that one's mark
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Code pages of the Latin script, the likelier first, each with the letters its languages use most
# and the least score it is taken for (the last two are rare by now).
# Told apart here: a table of names has too few words for the guesses of charset-normalizer.
_WESTERN = "áàâäãåæçéèêëíìîïñóòôöõøœßúùûüÿ"
_LATIN: tuple[tuple[str, str, float], ...] = (
    ("cp1252", _WESTERN, 0.6),
    ("cp1254", "çğıöşüâîûİ", 0.6),
    ("cp1250", "ąćęłńóśźżáčďéěíňřšťúůýžőűöüăâîşţľĺŕđäôëç", 0.6),
    ("cp1257", "āčēģīķļņšūžąęėįųõäöü", 0.6),
    ("mac_roman", _WESTERN, 0.9),
    ("cp850", _WESTERN, 0.9),
)
_PUNCTUATION = frozenset("“”„‘’‚–—…€£§°«»¿¡ªº·©®™\u00a0")
# In words that have letters outside ASCII at all, most letters still are ASCII ("Öğüt" is extreme).
_LATIN_HIGH_SHARE_MAX = 0.75
# Other scripts, where whole words are outside ASCII.
_OTHERS = [
    "cp1251",
    "koi8_r",
    "cp1253",
    "cp1255",
    "cp1256",
    "shift_jis",
    "euc_jp",
    "gb18030",
    "big5",
    "euc_kr",
]
_PUBLIC_NAMES = {"mac_roman": "macintosh", "koi8_r": "koi8-r", "euc_jp": "euc-jp"}
_GUESS_BYTES_MAX = 16 * 1024
_find_words_with_high = re.compile(rb"[A-Za-z]*[\x80-\xff][A-Za-z\x80-\xff]*").findall
_find_controls = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]").findall


class Encoding(NamedTuple):
    """An encoding Python can decode, and whether it is a guess (nothing in the file says so)."""

    name: str
    guessed: bool


def detect_encoding(head: bytes, *, complete: bool) -> Encoding:
    """The encoding of a file that begins with `head`.

    UTF-8 that is valid, and a byte order mark, are taken as said; everything else is a guess.
    Raises ContactFileError: FILE_NOT_CSV with what it is instead, ENCODING_UNKNOWN.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            raise _not_csv(kind)
    if _MARKUP.match(head):
        raise _not_csv("a web page or XML")
    for bom, name in _BOMS:
        if head.startswith(bom):
            return Encoding(name, guessed=False)
    if b"\0" in head:
        utf_16 = _utf_16_by_zeros(head)
        if utf_16 is None:
            raise _not_csv("a binary file")
        return Encoding(utf_16, guessed=True)
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text = decoder.decode(head, complete)
    damaged = sum("\ud800" <= char <= "\udfff" for char in text) if not text.isascii() else 0
    if not damaged:
        return Encoding("utf-8", guessed=False)
    # Bytes above 0x7F that happen to be good UTF-8 are no accident: a few bad rows in a UTF-8 file.
    if len(head) - len(text) > 9 * damaged:
        return Encoding("utf-8", guessed=True)
    return Encoding(_guess(head), guessed=True)


def _guess(head: bytes) -> str:
    telling = b"\n".join(line for line in head.splitlines() if not line.isascii())
    sample = telling[:_GUESS_BYTES_MAX]
    if len(_find_controls(sample)) * 50 > len(sample):
        raise _not_csv("a binary file")
    latin = _guess_latin(sample)
    best = None if latin else from_bytes(sample, cp_isolation=_OTHERS).best()
    name = latin or (best.encoding if best is not None else None)
    if name is None:
        raise ContactFileError(
            "ENCODING_UNKNOWN",
            "file",
            "The file's encoding could not be told; save it as UTF-8.",
        )
    return _PUBLIC_NAMES.get(name, name.replace("cp125", "windows-125"))


def _guess_latin(sample: bytes) -> str | None:
    """The Latin code page in which the most characters make sense; None: another script."""
    words = b"".join(_find_words_with_high(sample))
    high = sum(byte >= 0x80 for byte in words)
    if high > _LATIN_HIGH_SHARE_MAX * len(words):
        return None
    best, choice = 0.0, None
    for name, letters, score_min in _LATIN:
        try:
            text = sample.decode(name)
        except UnicodeDecodeError:
            continue
        score = _latin_score(text, frozenset(letters))
        if score > max(best, score_min):
            best, choice = score, name
    return choice


def _latin_score(text: str, letters: frozenset[str]) -> float:
    """From -1 to 1: how much of what is outside ASCII is the languages' own, in its place."""
    score = count = 0.0
    for before, char in pairwise(" " + text):
        if char.isascii():
            # A capital after a small letter: two halves of a double-byte character.
            score -= char.isupper() and not before.isascii() and before.islower()
            continue
        count += 1
        capital_inside = char.isupper() and before.islower()
        if (char in letters or char.lower() in letters) and not capital_inside:
            score += 1
        elif char in _PUNCTUATION:
            score += 0 if before.isalpha() else 0.9
        else:
            score -= 1
    return score / max(1, count)


def _utf_16_by_zeros(head: bytes) -> str | None:
    """UTF-16 without a mark: mostly Latin text has a zero in every other byte."""
    sample = head[: 8 * 1024 // 2 * 2]
    half = max(1, len(sample) // 2)
    even, odd = sample[::2].count(0) / half, sample[1::2].count(0) / half
    if odd > 0.5 and even < 0.05:
        return "utf-16-le"
    if even > 0.5 and odd < 0.05:
        return "utf-16-be"
    return None


def _not_csv(kind: str) -> ContactFileError:
    return ContactFileError(
        "FILE_NOT_CSV",
        "file",
        f"This is {kind}, not CSV text; export the contacts as CSV.",
        {"found": kind},
    )

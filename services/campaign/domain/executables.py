"""Telling programs by their content, whatever they are called. Pure.

No search for malware: it recognises what the formats themselves say they are, so that a program
does not pass under the name of a document. Deliberately let through are

- scripts without an unmistakable beginning (batch files, VBScript, JavaScript): they are text, and
  under a text's name nothing executes them;
- archives, whose members are not looked at, as mail programs do not either; but an archive that is
  itself a program (JAR, APK, MSIX) is one under the name `.zip` too;
- documents with macros, which Outlook does not block.
"""

import re
import struct
from collections.abc import Callable, Iterator
from uuid import UUID

#: Gives the bytes at an offset: so many, fewer at the end of the file.
Reader = Callable[[int, int], bytes]

#: A directory of an archive that is longer is looked at so far; packages have their manifest first.
DIRECTORY_BYTES_MAX = 1024 * 1024

_HEAD_BYTES = 512

# What the file begins with. Sources: Microsoft's PE/COFF, MS-SHLLINK and the System V, Mach-O
# (mach-o/loader.h, mach-o/fat.h), JVM (JVMS 4.1) and DEX formats.
_BEGINNINGS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    # A text may begin with MZ; it has no control characters after that, and every header has.
    ("a Windows or DOS program", re.compile(rb"(?:MZ|ZM)[^\0-\x08\x0e-\x1f]*[\0-\x08\x0e-\x1f]")),
    ("a Linux or Unix program", re.compile(rb"\x7fELF")),
    ("a macOS program", re.compile(rb"\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe")),
    # Programs for several processors and Java's classes begin with the same number.
    (
        "a macOS program or a Java class",
        re.compile(rb"\xca\xfe\xba[\xbe\xbf]|[\xbe\xbf]\xba\xfe\xca"),
    ),
    # `#![` begins a program's source in Rust, which nothing executes.
    ("a script", re.compile(rb"#!(?!\[)")),
    ("an encoded Windows script", re.compile(rb"\s*#@~\^[A-Za-z0-9+/]{6}==")),
    (
        "a Windows shortcut",
        re.compile(rb"\x4c\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46"),
    ),
    ("a Windows help file", re.compile(rb"ITSF[\x02-\x04]\0\0\0|\?_\x03\0")),
    ("an Android program", re.compile(rb"dex\n[0-9]{3}\0")),
)

# Compound files ([MS-CFB]): old Office documents, and Windows Installer's, which tells itself apart
# by the class id of its root.
_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")
_SECTOR_SHIFT_AT, _DIRECTORY_SECTOR_AT = 30, 48
_SECTOR_SHIFTS = (9, 12)
_ENTRY_BYTES, _CLASS_ID_AT = 128, 80
_INSTALLER_CLASS_IDS = frozenset(
    UUID(f"000c10{kind}-0000-0000-c000-000000000046").bytes_le
    for kind in ("82", "84", "86")  # transform, package, patch
)

# ZIP (APPNOTE.TXT 4.3.12, 4.3.16): the end record, and an entry of the directory before it.
_END_RECORD, _END_BYTES, _COMMENT_BYTES_MAX = b"PK\x05\x06", 22, 65_535
_ENTRY = struct.Struct("<4s24xHHH12x")
_ENTRY_MARK = b"PK\x01\x02"
_PACKAGES = {
    b"META-INF/MANIFEST.MF": "a Java program",
    b"ANDROIDMANIFEST.XML": "an Android program",
    b"APPXMANIFEST.XML": "a Windows app package",
    b"APPXMETADATA/APPXBUNDLEMANIFEST.XML": "a Windows app package",
}


def executable_kind(read: Reader, size_bytes: int) -> str | None:
    """What kind of program the file is, as in "a script"; None: none that is known here."""
    head = read(0, _HEAD_BYTES)
    for kind, beginning in _BEGINNINGS:
        if beginning.match(head):
            return kind
    if _is_installer(head, read):
        return "a Windows Installer package"
    # Whatever the file begins with: a Java machine runs it if it only ends like an archive.
    for name in _archive_names(read, size_bytes):
        kind_of_package = _PACKAGES.get(name.upper())
        if kind_of_package is not None:
            return kind_of_package
    return None


def _is_installer(head: bytes, read: Reader) -> bool:
    if not head.startswith(_COMPOUND_FILE) or len(head) < _HEAD_BYTES:
        return False
    (shift,) = struct.unpack_from("<H", head, _SECTOR_SHIFT_AT)
    (sector,) = struct.unpack_from("<I", head, _DIRECTORY_SECTOR_AT)
    if shift not in _SECTOR_SHIFTS:
        return False
    root = read((sector + 1) << shift, _ENTRY_BYTES)
    return root[_CLASS_ID_AT : _CLASS_ID_AT + 16] in _INSTALLER_CLASS_IDS


def _archive_names(read: Reader, size_bytes: int) -> Iterator[bytes]:
    """The names in the directory of a ZIP archive; nothing when the file is none."""
    tail_at = max(0, size_bytes - _END_BYTES - _COMMENT_BYTES_MAX)
    tail = read(tail_at, size_bytes - tail_at)
    end_at = tail.rfind(_END_RECORD)
    if end_at < 0 or len(tail) - end_at < _END_BYTES:
        return
    (directory_bytes,) = struct.unpack_from("<I", tail, end_at + 12)
    # Counted from its end: something may stand before the archive.
    directory_at = tail_at + end_at - directory_bytes
    if directory_at < 0:
        return
    directory = read(directory_at, min(directory_bytes, DIRECTORY_BYTES_MAX))
    at = 0
    while at + _ENTRY.size <= len(directory):
        mark, name_bytes, extra_bytes, comment_bytes = _ENTRY.unpack_from(directory, at)
        if mark != _ENTRY_MARK:
            return
        at += _ENTRY.size
        yield directory[at : at + name_bytes]
        at += name_bytes + extra_bytes + comment_bytes

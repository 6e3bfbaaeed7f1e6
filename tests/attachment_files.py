"""Small files that begin, or end, as the real ones do."""

import io
import struct
import zipfile
from uuid import UUID


def windows_program() -> bytes:
    """A PE file as far as its headers: DOS header, stub, `PE`, one section table's worth of zeros."""
    dos = struct.pack("<2s58xI", b"MZ", 0x80)
    stub = b"\x0e\x1f\xba\x0e\x00\xb4\x09\xcd\x21This program cannot be run in DOS mode.\r\r\n$"
    return (dos + stub).ljust(0x80, b"\0") + struct.pack("<4sHH16x", b"PE\0\0", 0x8664, 1)


def linux_program() -> bytes:
    """An ELF header: 64 bits, little-endian, an executable for x86-64."""
    return struct.pack("<4s5B7xHHI", b"\x7fELF", 2, 1, 1, 0, 0, 2, 62, 1).ljust(64, b"\0")


def macos_program(magic: int = 0xFEEDFACF, order: str = "<") -> bytes:
    """A Mach-O header, of one processor."""
    return struct.pack(f"{order}7I4x", magic, 0x01000007, 3, 2, 0, 0, 0)


def macos_fat_program(magic: int = 0xCAFEBABE) -> bytes:
    """The header of a Mach-O file for two processors."""
    return struct.pack(">II10I", magic, 2, *range(10))


def java_class() -> bytes:
    """The beginning of a class of Java 21."""
    return struct.pack(">IHHH", 0xCAFEBABE, 0, 65, 10)


def shortcut() -> bytes:
    """A Windows shortcut's header."""
    link = UUID("00021401-0000-0000-c000-000000000046").bytes_le
    return (struct.pack("<I", 0x4C) + link).ljust(0x4C, b"\0")


def compiled_help() -> bytes:
    """The header of a CHM file."""
    return struct.pack("<4sIIIIH", b"ITSF", 3, 0x60, 1, 0, 0x409).ljust(0x60, b"\0")


def compound_file(class_id: str, *, sector_shift: int = 9, sector: int = 40) -> bytes:
    """An OLE file whose root, of this class, is in a sector far from the beginning."""
    head = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16)
    head += struct.pack("<HHHHH", 0x3E, 3 + (sector_shift == 12), 0xFFFE, sector_shift, 6)
    head = head.ljust(48, b"\0") + struct.pack("<I", sector)
    root = "Root Entry".encode("utf-16-le").ljust(64, b"\0") + struct.pack("<HBB", 22, 5, 1)
    root = root.ljust(80, b"\0") + UUID(class_id).bytes_le
    return head.ljust((sector + 1) << sector_shift, b"\0") + root.ljust(1 << sector_shift, b"\0")


WORD_97 = "00020906-0000-0000-c000-000000000046"
INSTALLER_PACKAGE = "000c1084-0000-0000-c000-000000000046"
INSTALLER_PATCH = "000c1086-0000-0000-c000-000000000046"
INSTALLER_TRANSFORM = "000c1082-0000-0000-c000-000000000046"


def archive(*names: str, comment: bytes = b"") -> bytes:
    """A ZIP archive with members of these names."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.comment = comment
        for name in names:
            opened.writestr(name, f"content of {name}" * 20)
    return data.getvalue()


def word_document() -> bytes:
    """A .docx, or .docm, as Word lays it out."""
    return archive("[Content_Types].xml", "_rels/.rels", "word/document.xml", "word/vbaProject.bin")

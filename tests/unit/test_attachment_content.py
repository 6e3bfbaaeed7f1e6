"""Programs are told by their content; what is none is let through."""

import io
import zipfile

import pytest

from services.campaign.domain.executables import DIRECTORY_BYTES_MAX, executable_kind
from tests import attachment_files as files


def kind_of(data: bytes) -> str | None:
    return executable_kind(lambda offset, size: data[offset : offset + size], len(data))


PROGRAMS = {
    "PE": (files.windows_program(), "a Windows or DOS program"),
    "DOS": (b"MZ\x90\0\x03\0\0\0", "a Windows or DOS program"),
    "DOS, the old mark": (b"ZM\x90\0\x03\0\0\0", "a Windows or DOS program"),
    "ELF": (files.linux_program(), "a Linux or Unix program"),
    "Mach-O, 32 bits": (files.macos_program(0xFEEDFACE), "a macOS program"),
    "Mach-O, 64 bits": (files.macos_program(0xFEEDFACF), "a macOS program"),
    "Mach-O, big-endian": (files.macos_program(0xFEEDFACE, ">"), "a macOS program"),
    "Mach-O, 64 bits, big-endian": (files.macos_program(0xFEEDFACF, ">"), "a macOS program"),
    "Mach-O, fat": (files.macos_fat_program(), "a macOS program or a Java class"),
    "Mach-O, fat, 64 bits": (
        files.macos_fat_program(0xCAFEBABF),
        "a macOS program or a Java class",
    ),
    "Mach-O, fat, swapped": (
        files.macos_fat_program(0xBEBAFECA),
        "a macOS program or a Java class",
    ),
    "Java class": (files.java_class(), "a macOS program or a Java class"),
    "shell script": (b"#!/bin/sh\nrm -rf ~\n", "a script"),
    "script, with a space": (b"#! /usr/bin/env python3\n", "a script"),
    "encoded VBScript": (b"#@~^EgAAAA==\\ko$K6,JCr@#@&...", "an encoded Windows script"),
    "shortcut": (files.shortcut(), "a Windows shortcut"),
    "CHM": (files.compiled_help(), "a Windows help file"),
    "HLP": (b"?_\x03\0\x10\0\0\0", "a Windows help file"),
    "DEX": (b"dex\n035\0" + bytes(100), "an Android program"),
    "MSI": (files.compound_file(files.INSTALLER_PACKAGE), "a Windows Installer package"),
    "MSP": (files.compound_file(files.INSTALLER_PATCH), "a Windows Installer package"),
    "MST": (files.compound_file(files.INSTALLER_TRANSFORM), "a Windows Installer package"),
    "MSI, large sectors": (
        files.compound_file(files.INSTALLER_PACKAGE, sector_shift=12, sector=3),
        "a Windows Installer package",
    ),
    "MSI, root in the first sector": (
        files.compound_file(files.INSTALLER_PACKAGE, sector=0),
        "a Windows Installer package",
    ),
    "JAR": (files.archive("META-INF/MANIFEST.MF", "Main.class"), "a Java program"),
    "JAR, in any order and case": (
        files.archive("Main.class", "meta-inf/manifest.mf"),
        "a Java program",
    ),
    "JAR with a comment": (
        files.archive("META-INF/MANIFEST.MF", comment=b"c" * 65_000),
        "a Java program",
    ),
    "JAR behind a picture": (
        b"GIF89a" + bytes(500) + files.archive("META-INF/MANIFEST.MF"),
        "a Java program",
    ),
    "APK": (files.archive("classes.dex", "AndroidManifest.xml"), "an Android program"),
    "MSIX": (files.archive("app.txt", "AppxManifest.xml"), "a Windows app package"),
    "MSIX bundle": (
        files.archive("x64.msix", "AppxMetadata/AppxBundleManifest.xml"),
        "a Windows app package",
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_program(case: str) -> None:
    data, kind = PROGRAMS[case]
    assert kind_of(data) == kind


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_program_that_was_cut_anywhere_is_no_fault(case: str) -> None:
    data, kind = PROGRAMS[case]
    for size in range(0, len(data), max(1, len(data) // 200)):
        assert kind_of(data[:size]) in (kind, None)


def test_a_program_that_goes_on() -> None:
    data = files.windows_program() + b"text" * 100_000
    assert kind_of(data) == "a Windows or DOS program"


HARMLESS = {
    "nothing": b"",
    "one byte": b"M",
    "text": b"Dear all,\r\n",
    "text that begins with MZ": b"MZ stands for Mark Zbikowski.\n\tHe made it.\r\n" * 50,
    "UTF-8 that begins with MZ": "MZ – größer".encode() * 50,
    "a Rust source": b"#![allow(dead_code)]\n",
    "a headline": b"# A headline\n",
    "a playlist": b"#EXTM3U\n",
    "a batch file: text": b"@echo off\r\nformat c:\r\n",
    "a VBScript: text": b'MsgBox "Hello"\r\n',
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "Word 97": files.compound_file(files.WORD_97),
    "an OLE file of no class": files.compound_file("00000000-0000-0000-0000-000000000000"),
    "an OLE file with impossible sectors": files.compound_file(
        files.INSTALLER_PACKAGE, sector_shift=9
    )[:30]
    + b"\x1f\0"
    + bytes(600),
    "an OLE file whose root is nowhere": files.compound_file(files.WORD_97)[:48]
    + b"\xff\xff\xff\xff"
    + bytes(600),
    "docx, docm": files.word_document(),
    "xlsx": files.archive("[Content_Types].xml", "xl/workbook.xml"),
    "odt": files.archive("mimetype", "META-INF/manifest.xml", "content.xml"),
    "epub": files.archive("mimetype", "META-INF/container.xml"),
    "zip": files.archive("a.txt", "b/setup.exe"),
    "zip of a project's folder": files.archive("project/META-INF/MANIFEST.MF"),
    "zip with a JAR in it": files.archive("lib/x.jar", "AndroidManifest.xml.txt"),
    "empty zip": files.archive(),
    "an end record alone": b"PK\x05\x06",
    "an end record that points before the file": b"PK\x05\x06" + b"\xff" * 18,
    "an end record in a text": b"the mark is PK\x05\x06, as you know, and much more follows it",
}


@pytest.mark.parametrize("case", HARMLESS)
def test_no_program(case: str) -> None:
    assert kind_of(HARMLESS[case]) is None


def test_a_jar_within_a_zip_is_not_looked_at() -> None:
    """Also when it is stored as it is, so that its directory stands there in plain bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("lib.jar", files.archive("META-INF/MANIFEST.MF", "Main.class"))
        opened.writestr("readme.txt", "x")
    assert kind_of(data.getvalue()) is None


def test_it_reads_a_little_of_a_large_file() -> None:
    names = (f"folder/some quite long name of a file, number {n}.txt" for n in range(25_000))
    data = files.archive("META-INF/MANIFEST.MF.txt", *names)
    read_bytes = []

    def read(offset: int, size: int) -> bytes:
        read_bytes.append(size)
        return data[offset : offset + size]

    assert executable_kind(read, len(data)) is None
    assert max(read_bytes) == DIRECTORY_BYTES_MAX
    assert sum(read_bytes) < 2 * DIRECTORY_BYTES_MAX

"""What a file may be called that is attached, and the media type that goes with its name."""

import pytest

from services.campaign.domain.attachments import (
    BLOCKED_EXTENSIONS,
    CONTENT_TYPES,
    check_content_type,
    check_file_name,
    content_type_of,
    extension_of,
)


def reasons(name: str) -> list[str]:
    found = check_file_name("header.file_name", name)
    assert all(v.field == "header.file_name" and v.text for v in found)
    return [violation.reason for violation in found]


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "README",
        "report.pdf",
        "Preisliste Österreich (2026), neu & gültig.pdf",
        "価格表.xlsx",
        "family 👩\u200d👩\u200d👧.png",
        "sun ☀\ufe0f.png",
        "می\u200cخواهم.pdf",
        ".profile",
        "archive.tar.gz",
        "everything.zip",
        "letter.docx",
        # Documents with macros are not in Outlook's list.
        "budget.xlsm",
        "letter.docm",
        "slides.pptm",
        # Only the last extension is what a system opens the file by.
        "setup.exe.txt",
        "exe",
        "my.exe file",
        'what? a *name* of <two> "kinds" | really.pdf',
        "x" * 196 + ".pdf",
        "é" * 200,
    ],
)
def test_a_name_that_is_right(name: str) -> None:
    assert reasons(name) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ["FIELD_REQUIRED"]),
        ("x" * 201, ["FIELD_TOO_LONG"]),
        ("a/b.pdf", ["FIELD_INVALID"]),
        ("..", ["FIELD_INVALID"]),
        ("../b.pdf", ["FIELD_INVALID"]),
        ("a\\b.pdf", ["FIELD_INVALID"]),
        ("C:b.pdf", ["FIELD_INVALID"]),
        ("a.txt:b.pdf", ["FIELD_INVALID"]),
        ("a.pdf\r\nBcc: x", ["FIELD_INVALID"] * 2),  # the `:` too
        ("a\nb.pdf", ["FIELD_INVALID"]),
        ("a\tb.pdf", ["FIELD_INVALID"]),
        ("a\0b.pdf", ["FIELD_INVALID"]),
        ("a\x7fb.pdf", ["FIELD_INVALID"]),
        ("a\x85b.pdf", ["FIELD_INVALID"]),
        ("a\u2028b.pdf", ["FIELD_INVALID"]),
        ("a\u200bb.pdf", ["FIELD_INVALID"]),
        ("\ufeffb.pdf", ["FIELD_INVALID"]),
        # Shown as "invoice_txt.exe.pdf" and the like: text that runs the other way.
        ("invoice_\u202efdp.txt", ["FIELD_INVALID"]),
        ("invoice_\u2067fdp.txt\u2069", ["FIELD_INVALID"]),
        ("invoice\u200ffdp.txt", ["FIELD_INVALID"]),
        ("\u061cinvoice.txt", ["FIELD_INVALID"]),
        (" a.pdf", ["FIELD_INVALID"]),
        ("a.pdf ", ["FIELD_INVALID"]),
        ("a.pdf\u00a0", ["FIELD_INVALID"]),
        ("a.pdf.", ["FIELD_INVALID"]),
        (" ", ["FIELD_INVALID"]),
        # Of these nothing else is looked at.
        ("x" * 200 + "/", ["FIELD_TOO_LONG"]),
        ("x" * 300 + ".exe", ["FIELD_TOO_LONG"]),
        ("x.{" + "0" * 4_000_000 + "}", ["FIELD_TOO_LONG"]),
    ],
)
def test_a_name_that_is_wrong(name: str, expected: list[str]) -> None:
    assert reasons(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "setup.exe",
        "SETUP.EXE",
        "Setup.ExE",
        ".exe",
        "invoice.pdf.exe",
        "invoice.pdf                                                  .exe",
        # Windows drops these at the end, and runs what is left.
        "setup.exe.",
        "setup.exe...",
        "setup.exe ",
        "setup.exe . .",
        "setup.exe\u00a0",
        "setup.exe\u3000",
        # Look-alikes that become the real ones.
        "setup.ｅｘｅ",
        "setup．exe",
        "setup․exe",
        "setup.ſcr",
        # Shown as the real ones.
        "setup.e\u00adxe",
        "setup.e\u200dxe",
        "setup.exe\ufe0f",
        "setup.exe\u115f",
        "setup.\U000e0041exe",
        # Whatever else is wrong with the name, this is what the caller has to know.
        "C:\\setup.exe",
        "setup\u202e.exe",
        "x" * 196 + ".exe",
        # Windows takes a class id for an extension that it does not show.
        "readme.txt.{3050f4d8-98B5-11CF-BB82-00AA00BDCE0B}",
    ],
)
def test_a_blocked_type_however_it_is_written(name: str) -> None:
    assert reasons(name) == ["ATTACHMENT_TYPE_BLOCKED"]


@pytest.mark.parametrize("extension", sorted(BLOCKED_EXTENSIONS))
def test_every_blocked_extension(extension: str) -> None:
    assert reasons(f"file.{extension}") == ["ATTACHMENT_TYPE_BLOCKED"]
    assert reasons(f"file.{extension.upper()}") == ["ATTACHMENT_TYPE_BLOCKED"]


#: Of all ages of the list: that of 1999, those of Office 2007, the 38 of 2019, the two of 2025.
SAMPLES = """
    ade adp bas bat chm cmd com cpl crt exe hlp hta inf js jse lnk mdb msi pif reg scr shs vbe vbs
    msh msh1 msh2 mshxml msh1xml msh2xml gadget vsmacros
    py pyc pyo pyw pyz pyzw ps1 ps1xml ps2 ps2xml psc1 psc2 psd1 psdm1 cdxml pssc appref-ms udl
    wsb cer crt der jar jnlp appcontent-ms settingcontent-ms cnt hpj website webpnp mcf
    printerexport pl theme vbp xbap xll xnk msu diagcab grp
    library-ms search-ms
"""


def test_the_list_is_outlooks() -> None:
    assert set(SAMPLES.split()) <= BLOCKED_EXTENSIONS
    assert len(BLOCKED_EXTENSIONS) == 133
    assert all(extension == extension.lower() for extension in BLOCKED_EXTENSIONS)


@pytest.mark.parametrize(
    ("name", "extension"),
    [("a.PDF", "pdf"), ("a.b.c", "c"), ("a", ""), ("a.", ""), ("a. pdf", "pdf"), ("", "")],
)
def test_extension(name: str, extension: str) -> None:
    assert extension_of(name) == extension


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.pdf", "application/pdf"),
        ("a.PDF", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        (
            "a.docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        ("a.ics", "text/calendar"),
        ("a", "application/octet-stream"),
        ("a.quite-unknown", "application/octet-stream"),
    ],
)
def test_the_media_type_by_the_name(name: str, content_type: str) -> None:
    assert content_type_of(name) == content_type


def test_the_table_of_media_types_is_right_in_itself() -> None:
    assert not BLOCKED_EXTENSIONS & set(CONTENT_TYPES)
    assert list(CONTENT_TYPES) == sorted(CONTENT_TYPES)
    for extension, content_type in CONTENT_TYPES.items():
        assert extension_of(f"x.{extension}") == extension
        assert check_content_type("t", content_type) == []


@pytest.mark.parametrize(
    "content_type",
    ["", "application/pdf", "Image/PNG", "application/vnd.ms-excel.sheet.macroEnabled.12", "a/b"],
)
def test_a_media_type_that_is_right(content_type: str) -> None:
    assert check_content_type("header.content_type", content_type) == []


@pytest.mark.parametrize(
    "content_type",
    [
        "pdf",
        "/",
        "a/",
        "/b",
        "a/b/c",
        " application/pdf",
        "application/pdf ",
        "application/pdf\n",
        "application/pdf\r\nBcc: x@example.org",
        "application/pdf; name=x",
        'application/pdf"',
        "application/pdf\0",
        "application/pdfé",
        "a/" + "b" * 128,
        "multipart/mixed",
        "MESSAGE/rfc822",
    ],
)
def test_a_media_type_that_is_wrong(content_type: str) -> None:
    (violation,) = check_content_type("header.content_type", content_type)
    assert (violation.field, violation.reason) == ("header.content_type", "FIELD_INVALID")

"""Names and contents of attachments, whatever they are."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from services.campaign.domain.attachments import (
    BLOCKED_EXTENSIONS,
    check_content_type,
    check_file_name,
    content_type_of,
    extension_of,
)
from services.campaign.domain.executables import executable_kind
from tests import attachment_files as files

SAMPLES = [
    files.windows_program(),
    files.linux_program(),
    files.compound_file(files.INSTALLER_PACKAGE),
    files.archive("META-INF/MANIFEST.MF", "a.class"),
    files.word_document(),
]


@given(st.text(max_size=300))
def test_a_name_that_is_taken_is_safe_to_show_and_to_store(name: str) -> None:
    if check_file_name("n", name):
        return
    assert 1 <= len(name) <= 200
    assert not set(name) & set("/\\:\r\n\0")
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name)
    assert not any(unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE") for c in name)
    assert extension_of(name) not in BLOCKED_EXTENSIONS
    assert check_content_type("t", content_type_of(name)) == []


@given(
    st.sampled_from(sorted(BLOCKED_EXTENSIONS)),
    st.text(alphabet="abc. é", max_size=20),
    st.lists(st.sampled_from([".", " ", "\u00a0", "\u3000"]), max_size=5),
    st.booleans(),
)
def test_a_blocked_extension_is_found_under_any_clothes(
    extension: str, stem: str, end: list[str], upper: bool
) -> None:
    name = f"{stem}.{extension.upper() if upper else extension}{''.join(end)}"
    assert [v.reason for v in check_file_name("n", name)] == ["ATTACHMENT_TYPE_BLOCKED"]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A known file with some bytes changed, or cut, or something before it."""
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(0, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return draw(st.binary(max_size=40)) + bytes(data[: draw(st.integers(0, len(data)))])


@given(st.one_of(st.binary(max_size=2_000), spoilt()))
def test_no_content_is_a_fault(data: bytes) -> None:
    def read(offset: int, size: int) -> bytes:
        assert offset >= 0
        assert size >= 0
        return data[offset : offset + size]

    executable_kind(read, len(data))

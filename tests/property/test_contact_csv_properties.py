import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from services.campaign.contacts.errors import ContactFileError, ContactLimits
from services.campaign.contacts.rows import BadRow, RowReader

SMALL = ContactLimits(columns_max=4, field_bytes_max=20)
fields = st.text(
    st.sampled_from(',;"\r\n ab é😀') | st.characters(codec="utf-8", exclude_characters="\0"),
    max_size=12,
)
cuts = st.lists(st.integers(1, 9), max_size=40)
endings = st.sampled_from(["\n", "\r\n"])


def read(data: bytes, sizes: list[int], encoding: str = "utf-8") -> list[object]:
    """Rows, or the reason of the refusal."""
    reader = RowReader(encoding, ",", SMALL, parse_bytes_min=1)
    rows: list[object] = []
    start = 0
    try:
        for size in [*sizes, len(data)]:
            rows += reader.feed(data[start : start + size]).rows
            start += size
        rows += reader.finish().rows
    except ContactFileError as error:
        return [error.reason]
    return [row.reason if isinstance(row, BadRow) else row for row in rows]


@given(st.lists(st.lists(fields, min_size=2, max_size=4), max_size=8), cuts, endings)
def test_what_is_written_is_read_wherever_it_is_cut(
    rows: list[list[str]], sizes: list[int], ending: str
) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows(rows)
    for encoding in ("utf-8", "utf-16-le"):
        data = text.getvalue().encode(encoding)
        # The first character of a file may be its byte order mark; quotes come first here.
        assert read(data, sizes, encoding) == rows


@given(st.text(st.sampled_from(',"\r\nab'), max_size=120), cuts)
def test_any_text_reads_the_same_wherever_it_is_cut(text: str, sizes: list[int]) -> None:
    data = text.encode()
    assert read(data, sizes) == read(data, [])


@given(st.binary(max_size=200), cuts)
def test_any_bytes_are_rows_or_a_named_refusal(data: bytes, sizes: list[int]) -> None:
    assert read(data, sizes) == read(data, [])

"""Rows out of bytes: every case at every way of cutting the file into chunks."""

import csv
import io

import pytest

from services.campaign.contacts.errors import ContactFileError, ContactLimits
from services.campaign.contacts.rows import BadRow, RowReader

SMALL = ContactLimits(columns_max=16, field_bytes_max=20)
# A row holds at most 16 x 23 characters, a quote may stay open for 160.
BAD = "BAD"


def read(
    data: bytes, chunk: int, *, encoding: str = "utf-8", delimiter: str = ",", **options: object
) -> list[list[str] | str]:
    limits = options.get("limits", ContactLimits())
    assert isinstance(limits, ContactLimits)
    reader = RowReader(encoding, delimiter, limits, parse_bytes_min=1)
    blocks = [reader.feed(data[i : i + chunk]) for i in range(0, len(data), chunk)]
    blocks.append(reader.finish())
    rows: list[list[str] | str] = []
    for block in blocks:
        assert block.first_row_number == len(rows) + 1
        rows += [f"{BAD} {r.reason}" if isinstance(r, BadRow) else r for r in block.rows]
    assert reader.rows_read == len(rows)
    assert reader.bytes_read == len(data)
    return rows


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 64, 100_000])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("a", [["a"]]),
        ("a,b", [["a", "b"]]),
        ("a,b\n", [["a", "b"]]),
        ("a,b\r\n", [["a", "b"]]),
        ("a,b\r", [["a", "b"]]),
        ("a\r\nb\nc\rd", [["a"], ["b"], ["c"], ["d"]]),
        ("\n", [[]]),
        ("\n\r\n\r", [[], [], []]),
        ("a\n\nb", [["a"], [], ["b"]]),
        (",", [["", ""]]),
        (",,\n", [["", "", ""]]),
        (" a , b ", [[" a ", " b "]]),
        ('"a","b"\n', [["a", "b"]]),
        ('"a,b",c\n', [["a,b", "c"]]),
        ('"a""b",c\n', [['a"b', "c"]]),
        ('"""",c\n', [['"', "c"]]),
        ('"",c\n', [["", "c"]]),
        ('"a\nb",c\nd', [["a\nb", "c"], ["d"]]),
        ('"a\r\nb",c\r\nd', [["a\r\nb", "c"], ["d"]]),
        ('"a\rb",c\rd', [["a\rb", "c"], ["d"]]),
        ('"\n\n\n",c', [["\n\n\n", "c"]]),
        ('x,"a\n""b""\nc"\ny', [["x", 'a\n"b"\nc'], ["y"]]),
        # Not RFC 4180, and harmless: a quote inside an unquoted field is a quote.
        ('5" pipe,b\n', [['5" pipe', "b"]]),
        ('a, "b"\n', [["a", ' "b"']]),
        # Only CR and LF end a row.
        ("a\u2028b\x0bc\x0cd\x85e\x1cf\n", [["a\u2028b\x0bc\x0cd\x85e\x1cf"]]),
        ("\ufeffa,b", [["a", "b"]]),
        ('\ufeff"a",b', [["a", "b"]]),
        ("a,\ufeffb", [["a", "\ufeffb"]]),
        ("é,😀\nя,名\n", [["é", "😀"], ["я", "名"]]),
        # A quoted field that goes on after its end costs its own row only.
        ('"a"b,c\nd,e\n', [f"{BAD} ROW_QUOTE_MALFORMED", ["d", "e"]]),
        ('a\n"a" ,c\nd\n', [["a"], f"{BAD} ROW_QUOTE_MALFORMED", ["d"]]),
        ('"a"b\n"c"d\ne', [f"{BAD} ROW_QUOTE_MALFORMED"] * 2 + [["e"]]),
    ],
)
def test_rows(text: str, rows: list[list[str] | str], chunk: int) -> None:
    assert read(text.encode(), chunk) == rows
    assert read(text.encode("utf-16-le"), chunk, encoding="utf-16-le") == rows


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(delimiter: str) -> None:
    text = f'a{delimiter}"b{delimiter}c"\nd,e{delimiter}f\n'
    rows = [["a", f"b{delimiter}c"], ["d,e", "f"]]
    assert read(text.encode(), 3, delimiter=delimiter) == rows


@pytest.mark.parametrize("chunk", [1, 3, 50, 100_000])
@pytest.mark.parametrize(
    ("text", "problem", "row"),
    [
        ('a,b\nc,"d', "UNCLOSED_QUOTE", 2),
        ('a,b\nc,"d\n', "UNCLOSED_QUOTE", 2),
        ('"', "UNCLOSED_QUOTE", 1),
        ('a\n\nc,"d\ne,f\ng,h\n', "UNCLOSED_QUOTE", 3),
        # Closed by the next quote in the file, rows later.
        ('a\nb,"c\nd,e\nf,"g"\n', "UNCLOSED_QUOTE", 2),
        ('a\nb,"c\n' + "d,e\n" * 50, "UNCLOSED_QUOTE", 2),
        ('a\nb,"c\n' + "d,e\n" * 50 + '"\nx\n', "UNCLOSED_QUOTE", 2),
        ("a\n" + "b" * 500 + "\nc\n", "ROW_TOO_LONG", 2),
        ("a\n" + "b" * 500, "ROW_TOO_LONG", 2),
        ("b" * 5_000, "ROW_TOO_LONG", 1),
    ],
)
def test_malformed_files(text: str, problem: str, row: int, chunk: int) -> None:
    with pytest.raises(ContactFileError) as caught:
        read(text.encode(), chunk, limits=SMALL)
    assert caught.value.reason == "FILE_MALFORMED"
    assert caught.value.metadata["row"] == str(row)
    assert caught.value.metadata["problem"] == problem


def test_an_unclosed_quote_is_noticed_long_before_the_file_is_in_memory() -> None:
    reader = RowReader("utf-8", ",", ContactLimits())
    fed = 0
    chunk = b"+447700900123,some text\n" * 2_000
    reader.feed(b'phone,name\n+447700900122,"oops\n')

    def feed_on() -> None:
        nonlocal fed
        for _ in range(1_000):
            fed += len(chunk)
            reader.feed(chunk)

    with pytest.raises(ContactFileError) as caught:
        feed_on()
    assert caught.value.metadata == {"problem": "UNCLOSED_QUOTE", "row": "2"}
    assert fed < 200_000


@pytest.mark.parametrize("chunk", [1_000, 70_000, 1_000_000])
def test_a_field_over_the_parsers_own_limit_costs_its_row(chunk: int) -> None:
    data = b"a\n" + b"x" * 200_000 + b"\nb\n"
    assert read(data, chunk) == [["a"], f"{BAD} ROW_FIELD_TOO_LONG", ["b"]]


@pytest.mark.parametrize("chunk", [1, 4, 1_000])
def test_a_nul_character_is_no_csv(chunk: int) -> None:
    with pytest.raises(ContactFileError) as caught:
        read(b"a,b\nc,\0d\n", chunk)
    assert caught.value.reason == "FILE_NOT_CSV"


def test_undecodable_bytes_stay_in_their_row() -> None:
    reader = RowReader("utf-8", ",", ContactLimits(), parse_bytes_min=1)
    block = reader.feed(b"a,b\nc,\xff\nd,e\n")
    assert block.has_undecoded
    assert block.rows == [["a", "b"], ["c", "\udcff"], ["d", "e"]]


def test_an_encoding_that_loses_its_place_is_refused() -> None:
    reader = RowReader("utf-16-le", ",", ContactLimits(), parse_bytes_min=1)
    with pytest.raises(ContactFileError) as caught:
        reader.feed("a\n".encode("utf-16-le") + b"\x00\xdc\x00\xdc\n\0")
    assert caught.value.metadata == {"problem": "UNDECODABLE"}


def test_bytes_are_limited() -> None:
    reader = RowReader("utf-8", ",", ContactLimits(file_bytes_max=10))
    reader.feed(b"1234567890")
    with pytest.raises(ContactFileError) as caught:
        reader.feed(b"1")
    assert caught.value.reason == "FILE_TOO_LARGE"
    assert caught.value.metadata == {"bytes_max": "10"}


def test_the_csv_module_still_says_unfinished_in_the_same_words() -> None:
    with pytest.raises(csv.Error, match=r"^unexpected end of data$"):
        list(csv.reader(io.StringIO('"a'), strict=True))

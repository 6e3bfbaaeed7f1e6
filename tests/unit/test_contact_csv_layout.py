import codecs

import pytest

from outreach.vocabulary import Channel
from services.campaign.contacts.dialect import FileLayout, detect_layout
from services.campaign.contacts.errors import ContactFileError, ContactLimits
from services.campaign.contacts.mapping import ColumnRole

PLAIN = "phone,name\n+447700900123,Ann\n+447700900124,Bob\n"


def layout(
    data: bytes | str,
    *,
    complete: bool = True,
    channel: Channel = Channel.SMS,
    has_header: bool | None = None,
    limits: ContactLimits | None = None,
) -> FileLayout:
    data = data.encode() if isinstance(data, str) else data
    return detect_layout(
        data, complete=complete, channel=channel, has_header=has_header, limits=limits
    )


@pytest.mark.parametrize(
    ("data", "encoding", "guessed"),
    [
        (PLAIN.encode(), "utf-8", False),
        (codecs.BOM_UTF8 + PLAIN.encode(), "utf-8", False),
        (PLAIN.replace("Ann", "Zoë 😀").encode(), "utf-8", False),
        (codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"), "utf-16-le", False),
        (codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"), "utf-16-be", False),
        (codecs.BOM_UTF32_LE + PLAIN.encode("utf-32-le"), "utf-32-le", False),
        (PLAIN.encode("utf-16-le"), "utf-16-le", True),
        (PLAIN.encode("utf-16-be"), "utf-16-be", True),
        (PLAIN.replace("Ann", "José").encode("cp1252"), "windows-1252", True),
        (PLAIN.replace("Ann", "Größe €").encode("cp1252"), "windows-1252", True),
        (PLAIN.replace("Ann", "Иван Петров, Мария").encode("cp1251"), "windows-1251", True),
        # One damaged byte does not make a file of good UTF-8 another encoding.
        (PLAIN.replace("Ann", "é" * 20).encode() + b"+447700900125,\xff\n", "utf-8", True),
    ],
)
def test_encodings(data: bytes, encoding: str, guessed: bool) -> None:
    found = layout(data)
    assert (found.encoding, found.encoding_guessed) == (encoding, guessed)
    assert found.column_names[0] == "phone"
    data.decode(found.encoding, "surrogateescape")  # a name Python knows


@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("cp1252", "José García Málaga"),
        ("cp1252", "Jürgen Groß München €"),
        ("cp1252", "François Lefèvre à Orléans"),
        ("cp1252", "João Conceição São Paulo"),
        ("cp1252", "Åsa Öström Malmö"),
        ("cp1252", "“Niño” – ok"),
        ("cp1252", "Bjørn Ærø"),
        ("cp1250", "Łukasz Żółć Kraków"),
        ("cp1250", "Škoda Čeněk"),
        ("cp1254", "Şükrü Yılmaz İstanbul"),
        ("cp1254", "Çağrı Öğüt"),
        ("mac_roman", "José García Málaga"),
        ("cp850", "Jürgen Groß München"),
        ("cp1251", "Иван Петров Москва"),
        ("cp1256", "محمد علي القاهرة"),
        ("euc_jp", "山田太郎 東京都"),
        ("gb18030", "王小明 北京市朝阳区"),
        ("euc_kr", "김철수 서울특별시"),
    ],
)
def test_names_in_old_code_pages_are_read_right(encoding: str, name: str, rows: int) -> None:
    data = "phone,name\n" + "".join(f"+4477009{n:05d},{name}\n" for n in range(rows))
    found = layout(data.encode(encoding))
    assert found.encoding_guessed
    assert found.sample_rows[0][1] == name


def test_japanese_is_guessed_and_readable() -> None:
    found = layout(
        "電話,名前\n+819012345678,山田太郎\n+819012345679,鈴木花子\n".encode("shift_jis")
    )
    assert found.encoding_guessed
    assert found.sample_rows[0][1] == "山田太郎"


def test_a_character_cut_at_the_end_of_the_head_is_no_other_encoding() -> None:
    head = (PLAIN + "+447700900125,é").encode()[:-1]
    assert layout(head, complete=False).encoding == "utf-8"


@pytest.mark.parametrize(
    ("text", "delimiter", "columns"),
    [
        ("phone,name\n+447700900123,Ann\n", ",", 2),
        ("phone;name\n+447700900123;Ann\n", ";", 2),
        ("phone\tname\n+447700900123\tAnn\n", "\t", 2),
        ("phone;name\n+447700900123;Doe, Ann\n+447700900124;Doe, Bob\n", ";", 2),
        ("+447700900123;Doe, Ann\n+447700900124;Doe, Bob\n", ";", 2),
        ('phone,name\n+447700900123,"a;b;c"\n+447700900124,"d;e;f"\n', ",", 2),
        ("name,note,phone\nAnn,a;b,+447700900123\nBob,c;d,+447700900124\n", ",", 3),
        ("phone\n+447700900123\n", ",", 1),
        ("+447700900123\n", ",", 1),
        ("+447700900123", ",", 1),
        ("phone,name\r\n+447700900123,Ann\r\n", ",", 2),
        ("phone,name\r+447700900123,Ann\r", ",", 2),
        ("\n\nphone,name\n+447700900123,Ann\n", ",", 2),
        ('phone,name\n+447700900123,"two\nlines"\n', ",", 2),
        ('phone;name\n+447700900123;5" pipe\n', ";", 2),
    ],
)
def test_delimiters(text: str, delimiter: str, columns: int) -> None:
    found = layout(text)
    assert (found.delimiter, len(found.columns)) == (delimiter, columns)


@pytest.mark.parametrize(
    ("first", "channel", "header"),
    [
        ("phone,name", Channel.SMS, True),
        ("+447700900123,Ann", Channel.SMS, False),
        ("Ann,+447700900123", Channel.SMS, False),
        ("07700 900123,Ann", Channel.SMS, False),
        ("(212) 555-0123,Ann", Channel.SMS, False),
        ("ann@example.com,Ann", Channel.EMAIL, False),
        ("email,name", Channel.EMAIL, True),
        ("ann@example.com,Ann", Channel.SMS, True),
        ("2026,name", Channel.SMS, True),
    ],
)
def test_headers(first: str, channel: Channel, header: bool) -> None:
    data = f"{first}\n+447700900124,Bob\n"
    assert layout(data, channel=channel).has_header is header
    for wanted in (True, False):
        assert layout(data, channel=channel, has_header=wanted).has_header is wanted


@pytest.mark.parametrize(
    ("header", "names", "variables"),
    [
        ("name,city", ["name", "city"], ["name", "city"]),
        ("First Name,Größe (cm)", ["First Name", "Größe (cm)"], ["First_Name", "Grosse_cm"]),
        ("name,name", ["name", "name"], ["name", "name_2"]),
        ("name,,name_2", ["name", "column_3", "name_2"], ["name", "column_3", "name_2"]),
        ("name,name,name_2", ["name", "name", "name_2"], ["name", "name_2", "name_2_2"]),
        ("1st,2nd", ["1st", "2nd"], ["_1st", "_2nd"]),
        (" name ,_x_", ["name", "_x_"], ["name", "_x_"]),
        ("名前,!!", ["名前", "!!"], ["column_2", "column_3"]),
        ("Prénom,a-b-", ["Prénom", "a-b-"], ["Prenom", "a_b"]),
        ("x" * 70 + ",b", ["x" * 70, "b"], ["x" * 64, "b"]),
    ],
)
def test_variable_names_from_headers(header: str, names: list[str], variables: list[str]) -> None:
    found = layout(f"phone,{header}\n+447700900123{',v' * len(names)}\n")
    assert list(found.column_names) == ["phone", *names]
    suggested = found.suggested_mapping
    assert [column.variable_name for column in suggested[1:]] == variables
    assert suggested[0].role is ColumnRole.DESTINATION


def test_without_a_header_columns_are_numbered() -> None:
    found = layout("Ann,+447700900123\nBob,+447700900124\n")
    assert found.column_names == ("column_1", "column_2")
    assert found.suggested_mapping[0].variable_name == "column_1"
    assert found.suggested_mapping[1].role is ColumnRole.DESTINATION


@pytest.mark.parametrize(
    ("text", "channel", "destination"),
    [
        ("id,phone\n12345678,+447700900123\n", Channel.SMS, 1),
        ("email,phone\na@example.com,+447700900123\n", Channel.EMAIL, 0),
        ("email,phone\na@example.com,+447700900123\n", Channel.SMS, 1),
        ("office phone,mobile\n,+447700900123\n,+447700900124\n", Channel.SMS, 1),
        ("mobile,name\nbad,Ann\nworse,Bob\n", Channel.SMS, 0),
        ("colour,name\nred,Ann\n", Channel.SMS, None),
    ],
)
def test_the_destination_is_guessed(text: str, channel: Channel, destination: int | None) -> None:
    roles = [column.role for column in layout(text, channel=channel).suggested_mapping]
    found = [i for i, role in enumerate(roles) if role is ColumnRole.DESTINATION]
    assert found == ([] if destination is None else [destination])


def test_five_sample_rows_cut_short() -> None:
    rows = "".join(f"+44770090012{n},{'x' * 300}\n" for n in range(9))
    found = layout("phone,note\n" + rows)
    assert len(found.sample_rows) == 5
    assert found.sample_rows[0] == ("+447700900120", "x" * 200)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "FILE_EMPTY"),
        (b"\n \r\n\n", "FILE_EMPTY"),
        (codecs.BOM_UTF8, "FILE_EMPTY"),
        (codecs.BOM_UTF16_LE + "\n".encode("utf-16-le"), "FILE_EMPTY"),
        (b",,\n,,\n", "FILE_EMPTY"),
        (b"phone,name\n", "FILE_HEADER_ONLY"),
        (b"phone,name", "FILE_HEADER_ONLY"),
        (b"phone,name\n\n,\n", "FILE_HEADER_ONLY"),
        (b"PK\x03\x04\x14\x00\x06\x00" + b"x" * 100, "FILE_NOT_CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, "FILE_NOT_CSV"),
        (b"%PDF-1.7\n", "FILE_NOT_CSV"),
        (b"\x1f\x8b\x08\x00", "FILE_NOT_CSV"),
        (b"\x89PNG\r\n\x1a\n", "FILE_NOT_CSV"),
        (b"<!DOCTYPE html><table>", "FILE_NOT_CSV"),
        (b'<?xml version="1.0"?>', "FILE_NOT_CSV"),
        (b"{\\rtf1\\ansi", "FILE_NOT_CSV"),
        (b"phone,name\n+447700900123,A\0nn\n", "FILE_NOT_CSV"),
        (bytes(range(256)) * 8, "FILE_NOT_CSV"),
        (bytes(range(1, 32)) * 20 + b"\xff\xfe", "FILE_NOT_CSV"),
        (
            (",".join(f"c{n}" for n in range(65)) + "\n" + "," * 64 + "x\n").encode(),
            "TOO_MANY_COLUMNS",
        ),
        (b'phone,name\n+447700900123,"Ann\n', "FILE_MALFORMED"),
        (b"x" * 300_000, "FILE_MALFORMED"),
    ],
)
def test_refused_files(data: bytes, reason: str) -> None:
    with pytest.raises(ContactFileError) as caught:
        layout(data)
    assert caught.value.reason == reason
    assert caught.value.field == "file"
    assert caught.value.text.endswith((".", "?"))


def test_64_columns_are_fine_and_the_limit_is_a_setting() -> None:
    data = (",".join(f"c{n}" for n in range(64)) + "\n" + "," * 63 + "x\n").encode()
    assert len(layout(data).columns) == 64
    with pytest.raises(ContactFileError) as caught:
        layout(data, limits=ContactLimits(columns_max=63))
    assert caught.value.metadata == {"columns": "64", "columns_max": "63"}


def test_a_header_alone_in_the_head_is_not_the_whole_file() -> None:
    assert layout(b"phone,name\n+44", complete=False).column_names == ("phone", "name")

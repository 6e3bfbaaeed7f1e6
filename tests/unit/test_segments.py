import pytest

from outreach.template.segments import GSM_7_BASIC, GSM_7_EXTENSION, SmsEncoding, segments

GSM, UCS = SmsEncoding.GSM_7, SmsEncoding.UCS_2


def test_the_alphabet_has_all_127_characters_of_the_standard() -> None:
    assert len(set(GSM_7_BASIC)) == len(GSM_7_BASIC) == 127  # 128 with the escape itself
    assert len(set(GSM_7_EXTENSION)) == 10
    assert not set(GSM_7_BASIC) & set(GSM_7_EXTENSION)


@pytest.mark.parametrize(
    ("text", "encoding", "units", "parts"),
    [
        ("", GSM, 0, 1),
        ("Hello", GSM, 5, 1),
        ("x" * 160, GSM, 160, 1),
        ("x" * 161, GSM, 161, 2),
        ("x" * 306, GSM, 306, 2),
        ("x" * 307, GSM, 307, 3),
        ("x" * 1_530, GSM, 1_530, 10),
        ("x" * 1_600, GSM, 1_600, 11),
        (GSM_7_BASIC, GSM, 127, 1),
        (GSM_7_EXTENSION, GSM, 20, 1),
        ("\f", GSM, 2, 1),
        ("€" * 80, GSM, 160, 1),
        ("€" * 81, GSM, 162, 2),
        # 153 is odd: a part of nothing but extension characters holds 76 of them.
        ("€" * 152, GSM, 304, 2),
        ("€" * 153, GSM, 306, 3),
        # The extension character would be split at 153, so it moves: 306 septets, but three parts.
        ("x" * 152 + "€" + "x" * 152, GSM, 306, 3),
        ("x" * 151 + "€" + "x" * 153, GSM, 306, 2),
        ("ç", UCS, 1, 1),  # only the capital is in GSM-7
        ("Ç", GSM, 1, 1),
        ("`", UCS, 1, 1),
        ("\t", UCS, 1, 1),
        ("“", UCS, 1, 1),
        ("я" * 70, UCS, 70, 1),
        ("я" * 71, UCS, 71, 2),
        ("я" * 134, UCS, 134, 2),
        ("я" * 135, UCS, 135, 3),
        ("x" * 70 + "я", UCS, 71, 2),
        ("😀", UCS, 2, 1),
        ("😀" * 35, UCS, 70, 1),
        ("😀" * 36, UCS, 72, 2),
        # 67 is odd: 33 pairs a part.
        ("😀" * 66, UCS, 132, 2),
        ("😀" * 67, UCS, 134, 3),
        ("x" + "😀" * 66, UCS, 133, 2),
        ("x" * 66 + "😀" + "x" * 66, UCS, 134, 3),
        # An extension character costs one unit in UCS-2.
        ("я" * 69 + "€", UCS, 70, 1),
        ("\r\n" * 80, GSM, 160, 1),
    ],
)
def test_segments(text: str, encoding: SmsEncoding, units: int, parts: int) -> None:
    assert segments(text) == (encoding, units, parts)

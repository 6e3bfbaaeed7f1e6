import pytest

from outreach.email.headers import (
    check_display_name,
    check_header,
    check_header_value,
    check_sender_address,
    check_subject,
)
from outreach.email.nesting import is_too_deep

BREAKS = ["\r\n", "\n", "\r", "\0", "\x0b", "\x0c", "\x1c", "\x7f", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("line_break", BREAKS)
def test_no_header_field_takes_a_line_break(line_break: str) -> None:
    value = f"a{line_break}Bcc: x@x.example"
    for check in (check_header_value, check_subject, check_display_name, check_sender_address):
        assert [violation.reason for violation in check("f", value)] == ["FIELD_INVALID"]
    assert check_header("f", "X-A", value)
    assert check_header("f", f"X-A{line_break}", "a")


@pytest.mark.parametrize(
    ("name", "is_good"),
    [("Ann O'Hara (Shop) é 😀", True), ("", True), ("A; B", False), ("A, B", False),
     ("x" * 201, False), ("a\ud800", False)],
)  # fmt: skip
def test_display_names(name: str, is_good: bool) -> None:
    assert (not check_display_name("f", name)) == is_good


@pytest.mark.parametrize(
    ("address", "is_good"),
    [("news@shop.com", True), ("a+b@shop.com", True), ("", False), ("plainly-none", False), ("a@b@c.com", False),
     ("ä@shop.com", False), ("A <a@shop.com>", False), ("a@shop.com,b@shop.com", False)],
)  # fmt: skip
def test_sender_addresses(address: str, is_good: bool) -> None:
    violations = check_sender_address("f", address)
    assert (not violations) == is_good
    assert not address or all(address not in violation.text for violation in violations)


@pytest.mark.parametrize("name", ["To", "subject", "Content-Type", "X-SG-ID", "a b", "a:", "ä", ""])
def test_headers_that_cannot_be_set(name: str) -> None:
    assert check_header("f", name, "x")
    assert not check_header("f", "List-Unsubscribe", "<https://u.example/u>")


@pytest.mark.parametrize(
    ("markup", "is_deep"),
    [
        ("<div>" * 10 + "</div>" * 10, False),
        ("<div>" * 11, True),
        ("<p>x</p>" * 100, False),
        ("<p>x" * 100, False),
        ("<table><tr><td><p>x</td></tr></table>" * 100, False),
        ("<ul>" + "<li>x" * 100 + "</ul>", False),
        ("<br><img><hr>" * 100, False),
        ("<b><i>x</i></b>" * 100, False),
        # The parser ignores the end tag, or opens the element again in the next block.
        ("<div><span></div>" * 2 + "<table></div><div>" * 11, True),
        ("<p><b a=1></p>" * 11, True),
        ("<o:p/>" * 11, True),
        ("<svg><style>" + "<b>" * 11, True),
        ("<!--" + "<b>" * 11 + "-->", True),
    ],
)
def test_depth_is_never_guessed_too_low(markup: str, is_deep: bool) -> None:
    assert is_too_deep(markup, 10) == is_deep

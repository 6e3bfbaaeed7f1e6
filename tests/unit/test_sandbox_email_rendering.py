"""What recipients get, and that the pages that show it cannot be hurt by it."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from services.sandbox.sendgrid.pages import email_page, html_part, list_page
from services.sandbox.sendgrid.rendering import RenderedEmail, rendered
from tests.sandbox_email_parts import mail, personalization

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'\"&<>",
    "</iframe><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "{{x}} %x% 😀",
    "javascript:alert(1)",
]


def render(personal: dict[str, Any], **more: Any) -> RenderedEmail:
    return rendered(mail("unused@example.org", **more), personal)


def test_substitutions_act_on_subject_content_and_reply_to_and_not_on_headers() -> None:
    email = render(
        personalization(
            "ada@example.org",
            substitutions={"%name%": "Ada & Co", "%u%": "https://u.example/1"},
            headers={"List-Unsubscribe": "<%u%>"},
        ),
        subject="Hello %name%",
        reply_to={"email": "reply@example.org", "name": "To %name%"},
        headers={"X-All": "%name%", "List-Unsubscribe": "<of all>"},
        content=[
            {"type": "text/plain", "value": "Dear %name%, %u%"},
            {"type": "text/html", "value": "<a href='%u%'>%name%</a>"},
        ],
    )
    assert email.subject == "Hello Ada & Co"
    assert email.text == "Dear Ada & Co, https://u.example/1"
    assert email.html == "<a href='https://u.example/1'>Ada & Co</a>"
    assert dict(email.headers) == {
        "From": '"Outreach" <campaigns@outreach.example>',
        "To": "ada@example.org",
        "Reply-To": '"To Ada & Co" <reply@example.org>',
        "Subject": "Hello Ada & Co",
        "X-All": "%name%",
        "List-Unsubscribe": "<%u%>",
    }


def test_what_is_of_a_personalization_comes_before_what_is_of_the_request() -> None:
    email = render(
        {
            **personalization("ada@example.org", subject="Own", custom_args={"a": "1"}),
            "from": {"email": "own@mail.outreach.example"},
        },
        custom_args={"a": "0", "b": "2"},
        categories=["c"],
    )
    assert (email.subject, email.sender) == ("Own", "own@mail.outreach.example")
    assert email.custom_args == {"a": "1", "b": "2"}
    assert email.categories == ["c"]


def test_a_value_with_anothers_tag_is_substituted_again() -> None:
    # Whether SendGrid does is not known; a sender must not depend on its not doing so.
    personal = personalization("a@b.org", substitutions={"%a%": "%b%", "%b%": "secret"})
    assert render(personal, subject="%a%").subject == "secret"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(body: bytes) -> _Reader:
    reader = _Reader()
    reader.feed(body.decode())
    return reader


ALLOWED = {"html", "head", "meta", "title", "style", "body", "p", "a", "h1", "h2", "table"}
ALLOWED |= {"tr", "th", "td", "iframe", "pre"}


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_stay_values(value: str) -> None:
    email = render(
        personalization(
            "ada@example.org",
            substitutions={"%v%": value},
            headers={"X-Value": value},
            custom_args={value: value},
        ),
        subject="Subject %v%",
        content=[
            {"type": "text/plain", "value": "text %v%"},
            {"type": "text/html", "value": "<p title='%v%'>%v%</p>"},
        ],
        categories=[value],
        attachments=[{"filename": value, "type": "text/plain", "content": "YQ=="}],
        **{"from": {"email": "campaigns@outreach.example", "name": value}},
    )
    answer = email_page("id.0", value, email)
    page = read(answer.body)
    assert {tag for tag, _ in page.tags} <= ALLOWED
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert all(str(attrs["href"]).startswith("/sandbox/") for tag, attrs in page.tags if tag == "a")
    (frame,) = [attrs for tag, attrs in page.tags if tag == "iframe"]
    assert frame["sandbox"] == ""
    assert frame["srcdoc"] == email.html
    assert page.text.count(f"Subject {value}") == 3
    assert f"text {value}" in page.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy

    listed = read(list_page([("id.0", value, value, value)]).body)
    assert {tag for tag, _ in listed.tags} <= ALLOWED
    assert listed.text.count(value) == 3


def test_the_html_part_alone_runs_nothing() -> None:
    email = render(personalization("a@b.org"), content=[{"type": "text/html", "value": HOSTILE[0]}])
    answer = html_part(email)
    assert answer.body.decode() == HOSTILE[0]
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_email_without_parts_says_so() -> None:
    email = render(personalization("a@b.org"), content=[{"type": "text/html", "value": "<b>x</b>"}])
    page = email_page("id.0", "delivered", email).body.decode()
    assert re.search(r"<h2>Text part</h2><p>None\.</p>", page)
    assert unescape(page).count("<b>x</b>") == 1

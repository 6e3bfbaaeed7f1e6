"""Whatever the values and the templates are, an email stays what its template says."""

import html.parser
import random
import re
import time
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import parse_qsl, urlsplit

import nh3
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outreach.email.blocks import Blocks, EmailSource, Heading, Html, Mjml, Paragraph, Span
from outreach.email.compile import compile_email
from outreach.email.compiled import BoundEmail, CompiledEmail
from outreach.email.findings import InvalidEmail
from outreach.email.nesting import is_too_deep
from outreach.email.plain_text import text_of

COLUMNS = ["name", "city", "url"]
UNSUBSCRIBE_URL = "https://u.example/u?t=abc"
LINK = '<a href="{{unsubscribe_url}}">Unsubscribe</a>'
TEMPLATE = (
    '<p title="{{name}}" class="{{city}}">Hi {{name}}, {{ city | R&amp;D }} {{url}}</p>'
    '<a href="https://x.example/p/{{city}}?name={{name}}&amp;z=1#{{url}}">a</a>'
    '<a href="{{url}}">b</a><img src="{{url}}" alt="{{name}}"><a href="mailto:{{name}}">m</a>'
    '<!--[if mso]><v:rect href="{{url}}" title="{{name}}">{{city}}</v:rect><![endif]-->' + LINK
)
HOSTILE = [
    "<script>alert(1)</script>", "</p></a></title></style>", "\"' onclick=\"x\" '", "{{name}}",
    "{{unsubscribe_url}}", "{{", "}}", "%", "%3Cscript%3E", "😀", "x" * 20_000, "\0", "a\r\nBcc: b",
    "-->", "--!><img src=x onerror=y>", "<![endif]-->", "javascript:alert(1)", "https://y.example/?a=1&b=\"<>",
    "&lt;script&gt;", "<%asm_global_unsubscribe_raw_url%>", "\u2028", "\ud800", "tsaltx0z", "../../", "//e.example",
]  # fmt: skip
values = st.none() | st.sampled_from(HOSTILE) | st.text(max_size=30)
three = st.tuples(values, values, values)


class Shape(html.parser.HTMLParser):
    """What a document consists of, but for its text and its attributes' values."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.events: list[object] = []
        self.hrefs: list[str] = []
        self.texts: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.events.append((tag, tuple(name for name, _ in attrs)))
        self.hrefs += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_endtag(self, tag: str) -> None:
        self.events.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        # What Outlook reads there.
        self.events.append(Shape(data).events)

    def unknown_decl(self, data: str) -> None:
        self.events.append("declaration")


def bound(template: EmailSource, subject: str = "For {{name}} {{city|you}}") -> BoundEmail:
    email = compile_email(
        template, subject=subject, preheader="{{name}} in {{city}}", variable_names=COLUMNS
    )
    return email.bind(COLUMNS)


SOURCES: list[EmailSource] = [
    Html(TEMPLATE),
    Mjml(
        "<mjml><mj-body><mj-section><mj-column>"
        '<mj-text>{{name}} <a href="https://x.example/?q={{city}}">{{url}}</a></mj-text>'
        '<mj-image src="{{url}}" alt="{{name}}" /><mj-button href="{{url}}">{{city}}</mj-button>'
        "<mj-text>{{unsubscribe_url}}</mj-text></mj-column></mj-section></mj-body></mjml>"
    ),
    Blocks(
        (
            Heading("{{name}} {{city|R&D}}"),
            Paragraph((Span("{{url}}", bold=True, link="{{url}}"), Span("{{unsubscribe_url}}"))),
        )
    ),
]
EMAILS = [bound(source) for source in SOURCES]
SHAPES = [
    Shape(email.render(["a", "b", "https://c.example/"], UNSUBSCRIBE_URL).html).events
    for email in EMAILS
]


@given(st.integers(0, len(SOURCES) - 1), three)
def test_no_value_changes_the_structure(
    index: int, row: tuple[str | None, str | None, str | None]
) -> None:
    rendered = EMAILS[index].render(row, UNSUBSCRIBE_URL)
    shape = Shape(rendered.html)
    assert shape.events == SHAPES[index]
    for href in shape.hrefs:
        assert re.match(r"https?://[^/]|mailto:|#|%7B%7B", href), href
    assert UNSUBSCRIBE_URL in shape.hrefs + [text.strip() for text in shape.texts]


@given(three)
def test_a_value_in_a_query_is_read_back_as_it_was(
    row: tuple[str | None, str | None, str | None],
) -> None:
    href = next(
        link
        for link in Shape(EMAILS[0].render(row, UNSUBSCRIBE_URL).html).hrefs
        if link.startswith("https://x.example/p/")
    )
    name = re.sub("[\0\ud800-\udfff]", "", row[0] or "{{name}}")
    split = urlsplit(href)
    assert split.netloc == "x.example"
    assert parse_qsl(split.query, keep_blank_values=True) == [("name", name), ("z", "1")]


@given(three, st.randoms(use_true_random=False))
def test_replacing_tags_one_after_the_other_gives_the_same(
    row: tuple[str | None, str | None, str | None], order: random.Random
) -> None:
    """Nobody says whether the provider replaces in one pass: no value holds a tag, so it does not matter."""
    for email in EMAILS:
        substitutions = email.substitutions(row, UNSUBSCRIBE_URL)
        tags = list(substitutions)
        order.shuffle(tags)
        html_part, text = email.email.html, email.email.text
        for tag in tags:
            html_part = html_part.replace(tag, substitutions[tag])
            text = text.replace(tag, substitutions[tag])
        rendered = email.render(row, UNSUBSCRIBE_URL)
        assert (html_part, text) == (rendered.html, rendered.text)
        assert not any(tag in html_part or tag in text for tag in tags)


@given(three)
def test_what_is_sent_is_json_and_headers_are_one_line(
    row: tuple[str | None, str | None, str | None],
) -> None:
    email = EMAILS[0]
    assert orjson.loads(orjson.dumps(email.substitutions(row, UNSUBSCRIBE_URL)))
    subject = email.render(row, UNSUBSCRIBE_URL).subject
    assert len(subject.splitlines()) == 1
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject[:500]
    assert message.keys() == ["Subject"]


@given(three)
def test_reading_a_stored_email_changes_nothing(
    row: tuple[str | None, str | None, str | None],
) -> None:
    for email in EMAILS:
        again = CompiledEmail.from_dict(orjson.loads(orjson.dumps(email.email.to_dict())))
        assert again.bind(COLUMNS).render(row, "https://u") == email.render(row, "https://u")


# mrml 0.2.4 panics on it.
PANICS = "<mjml><mj-body><!--[if--></mj-body></mjml>"
PIECES = """
<p> </p> <div> </div> <b> </b> <table> <tr> <td> </td> </table> <a href= " ' > < / = ! -- <!-- -->
<![endif]--> <!--[if mso]> <script> </script> <style> </style> <svg> </svg> <math> <mtext> <title>
</title> <textarea> <select> <noscript> </noscript> <xmp> <plaintext> <template> <form> <iframe>
javascript: onerror=x onclick="x" style=" color:red; url( expression( \\72 @import @media{ } {
{{name}} {{url}} {{city|x}} &lt; &amp; &#x3c; &colon; href src="x" title=" <img <body> <html> <head>
<base href="//x"> <meta http-equiv=refresh> <mjml> <mj-body> <mj-text>
"""
pieces = st.sampled_from([*PIECES.split(), " ", "\n", "\t", "a", "é", "\x0c", "{{"])
NESTING = """
<p> </p> <div> </div> <b> <i> </i> </b> <table> <td> </td> </table> <span> </span> <li> <ul> </ul>
<svg> </svg> <br> <button> </button> <o:p/> x <tr> </tr> </li> <h1> </h1> <h2> <a> </a> <dl> <dd> <dt> </dl> <th>
"""
nestings = st.lists(st.sampled_from(NESTING.split()), max_size=60).map("".join)
FORBIDDEN = (
    "script iframe object embed form input svg math base link template select textarea noscript xmp"
)
RUNS = frozenset(FORBIDDEN.split())


def compiled_or_refused(source: EmailSource) -> CompiledEmail | None:
    try:
        return compile_email(source, subject="x", preheader="{{name}}", variable_names=COLUMNS)
    except InvalidEmail as error:
        refused = error
    assert refused.violations
    assert all(violation.text for violation in refused.violations)
    return None


class Safety(html.parser.HTMLParser):
    """Refuses what may not be in an email; reads conditional comments as Outlook does."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in RUNS
        for name, value in attrs:
            assert not name.startswith("on")
            assert not re.match(r"[\0- ]*(javascript|vbscript|data):", value or "", re.IGNORECASE)
            assert tag != "meta" or (name, value) != ("http-equiv", "refresh")

    def handle_comment(self, data: str) -> None:
        inner = Safety()
        inner.feed(data)
        inner.close()


@given(st.lists(pieces, max_size=40).map("".join))
def test_any_html_is_made_safe_or_refused(code: str) -> None:
    email = compiled_or_refused(Html(code + LINK))
    if email is None:
        return
    safety = Safety()
    rendered = email.bind(COLUMNS).render([HOSTILE[0], HOSTILE[2], HOSTILE[16]], UNSUBSCRIBE_URL)
    safety.feed(rendered.html)
    safety.close()
    assert not re.search(r"expression\(|javascript:", rendered.html.partition("<body")[0])


@given(st.lists(pieces, max_size=15).map("".join), st.booleans())
def test_any_mjml_is_compiled_or_refused(code: str, is_wrapped: bool) -> None:
    if is_wrapped:
        code = (
            f"<mjml><mj-body><mj-section><mj-column><mj-raw>{code}</mj-raw>"
            f"<mj-text>{LINK}</mj-text></mj-column></mj-section></mj-body></mjml>"
        )
    email = compiled_or_refused(Mjml(code))
    if email is None:
        return
    safety = Safety()
    safety.feed(email.html)
    safety.close()


def test_a_panic_of_the_mjml_parser_is_a_fault_of_the_template() -> None:
    with pytest.raises(InvalidEmail, match="MJML is broken"):
        compile_email(Mjml(PANICS), subject="x", variable_names=[])


class Depth(html.parser.HTMLParser):
    """Of well-formed markup, without what a parser adds to tables."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = self.deepest = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.depth += tag not in {"tbody", "tr"}
        self.deepest = max(self.deepest, self.depth)

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag not in {"tbody", "tr"}


@given(nestings)
def test_the_depth_is_that_of_the_parser_or_more(code: str) -> None:
    tags = set(re.findall(r"[a-z0-9:]+", NESTING)) - {"br", "x"} | {"tbody"}
    parsed = Depth()
    parsed.feed(nh3.clean(code, tags=tags))
    # A lone `</p>` makes an empty paragraph, one below what was open.
    assert parsed.deepest < 2 or is_too_deep(code, parsed.deepest - 2)


@pytest.mark.parametrize(
    "code",
    [
        "<p><b a=1></p>x" * 100_000, "<div>" * 100_000, '<a "' * 200_000, "<!--" * 200_000, "<style>" * 100_000,
        "<![endif]-->" * 80_000, "<!--[if mso]>" + "<script>" * 100_000 + "<![endif]-->", "{{a" * 300_000,
        "<!--[if mso]>" + "<style>" * 100_000 + "<![endif]-->", "<!--[if mso]>" + '<a b="' * 100_000 + "<![endif]-->",
        "<style>" + "@import x" * 100_000 + "</style>", "<style>" + "url(" * 200_000 + "</style>",
        "<style>" + "/*" * 400_000 + "</style>", "<p style='" + "expression(" * 80_000 + "'>",
        "<p style='" + "url(\"" * 80_000 + "'>", "<table>" * 100_000, "<p>x" * 200_000, "&lt;" * 200_000,
        "<a href='https://x.example/" + "{{name}}" * 50_000 + "'>",
    ],
    ids=lambda code: code[:24],
)  # fmt: skip
@pytest.mark.timeout(600)
def test_no_template_takes_long_or_ends_the_process(code: str) -> None:
    email = compiled_or_refused(Html(code + LINK))
    assert email is None or email.html


def hold_linear(work: Callable[[int], None], count: int) -> None:
    """Eight times as much takes eight times as long, more or less; by its square it would be 64 times.

    By the processor time of this thread: how busy or how slow the machine is does not count.
    """

    def seconds(count: int) -> float:
        begun = time.thread_time()
        work(count)
        return time.thread_time() - begun

    few = min(seconds(count // 8) for _ in range(3))
    assert seconds(count) < 24 * few


def test_labels_side_by_side_take_no_time_by_their_square() -> None:
    """25,000 took 13 s in one search, during which nothing else of the process ran."""

    def work(count: int) -> None:
        assert text_of('<img alt="x" src="y">' * count).count("[x]") == count

    hold_linear(work, 80_000)


def test_unknown_tags_take_no_time_by_their_square() -> None:
    """They took 29 s: the line of each was counted."""

    def work(count: int) -> None:
        with pytest.raises(InvalidEmail, match="100 elements inside each other"):
            compile_email(Mjml("<mjml>" + "<mj-a>" * count), subject="s", variable_names=COLUMNS)

    hold_linear(work, 160_000)

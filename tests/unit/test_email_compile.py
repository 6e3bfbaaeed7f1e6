import html.parser
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from outreach.email.blocks import EmailSource, Html, Mjml
from outreach.email.compile import compile_email
from outreach.email.compiled import CLIPPED_ABOVE_BYTES, CompiledEmail
from outreach.email.contexts import Context
from outreach.email.findings import (
    FINDINGS_MAX,
    WARNINGS,
    WARNINGS_PER_CODE_MAX,
    InvalidEmail,
)
from outreach.email.limits import EmailLimits
from outreach.template.placeholders import UnknownPlaceholder

ROOT = Path(__file__).parents[2]
LINK = '<a href="{{unsubscribe_url}}">Unsubscribe</a>'
UNSUBSCRIBE_URL = "https://u.example/u/abc"
COLUMNS = ["name", "city", "url"]


def compiled(
    code: str | EmailSource,
    *,
    subject: str = "Hello",
    preheader: str = "",
    text: str = "",
    names: Sequence[str] | None = COLUMNS,
    limits: EmailLimits | None = None,
) -> CompiledEmail:
    source = Html(code + LINK) if isinstance(code, str) else code
    return compile_email(
        source,
        subject=subject,
        preheader=preheader,
        text=text,
        variable_names=names,
        limits=limits,
        salt=lambda: "salt",
    )


def body_of(document: str) -> str:
    found = re.search(r"<body[^>]*>\n(.*)\n</body>", document, re.DOTALL)
    assert found
    return found[1].replace("\n", "")


def rendered_body(code: str, *values: str | None) -> str:
    email = compiled(code).bind(COLUMNS).render([*values, *[None] * (3 - len(values))], "https://u")
    return body_of(email.html).removesuffix('<a href="https://u">Unsubscribe</a>')


def reasons(code: str | EmailSource, **given: object) -> list[str]:
    with pytest.raises(InvalidEmail) as caught:
        compiled(code, **given)  # type: ignore[arg-type]  # the cases are tables
    return [violation.reason for violation in caught.value.violations]


def warning_codes(code: str | EmailSource, **given: object) -> set[str]:
    return {warning.code for warning in compiled(code, **given).warnings}  # type: ignore[arg-type]  # the same


@pytest.mark.parametrize(
    ("code", "value", "rendered"),
    [
        ("<p>{{name}}</p>", "<b>&\"'", "<p>&lt;b&gt;&amp;&quot;&#x27;</p>"),
        ('<p title="{{ name }}">x</p>', '" onclick="x', '<p title="&quot; onclick=&quot;x">x</p>'),
        ("<p title={{name}}>x</p>", "a b", '<p title="a b">x</p>'),
        ("<p>{{name}}</p>", "{{city}} 100 % 😀", "<p>{{city}} 100 % 😀</p>"),
        ("<p>{{name}}</p>", "a\0b\x07c\td", "<p>abc\td</p>"),
        ("<p>{{name}}</p>", "a\ud800b", "<p>ab</p>"),
        ('<a href="https://x.example/?a={{name}}&b=1">x</a>', "a/&?#é b",
         '<a href="https://x.example/?a=a%2F%26%3F%23%C3%A9%20b&amp;b=1">x</a>'),
        ('<a href="https://x.example/{{name}}">x</a>', '"><script>',
         '<a href="https://x.example/%22%3E%3Cscript%3E">x</a>'),
        ('<a href="https://{{name}}.x.example/">x</a>', "evil.example/@",
         '<a href="https://evil.example%2F%40.x.example/">x</a>'),
        ('<a href="{{name}}">x</a>', "https://x.example/?a=1&b=<é>",
         '<a href="https://x.example/?a=1&amp;b=%3C%C3%A9%3E">x</a>'),
        ('<a href=" {{name}} ">x</a>', " HTTP://x.example", '<a href="HTTP://x.example">x</a>'),
        ('<a href="{{name}}">x</a>', "mailto:a@x.example", '<a href="mailto:a@x.example">x</a>'),
        ('<a href="{{name}}">x</a>', "javascript:alert(1)", '<a href="#">x</a>'),
        ('<a href="{{name}}">x</a>', "java\nscript:alert(1)", '<a href="#">x</a>'),
        ('<a href="{{name}}">x</a>', "//evil.example", '<a href="#">x</a>'),
        ('<a href="{{name}}">x</a>', "data:text/html,x", '<a href="#">x</a>'),
        ('<a href="{{name}}?a={{name}}">x</a>', "https://x.example/",
         '<a href="https://x.example/?a=https%3A%2F%2Fx.example%2F">x</a>'),
        ('<a href="mailto:{{name}}">x</a>', "a+b@x.example?bcc=y",
         '<a href="mailto:a+b@x.example%3Fbcc%3Dy">x</a>'),
        ('<img src="{{name}}" alt="{{name}}">', "https://x.example/a.png",
         '<img src="https://x.example/a.png" alt="https://x.example/a.png">'),
        ('<table background="https://x.example/{{name}}"></table>', "&",
         '<table background="https://x.example/%26"></table>'),
        # Missing: as it stands in the template, written for its place.
        ("<p>{{ name }}</p>", None, "<p>{{ name }}</p>"),
        ('<a href="https://x.example/?a={{name}}">x</a>', None,
         '<a href="https://x.example/?a=%7B%7Bname%7D%7D">x</a>'),
        ('<a href="{{name}}">x</a>', "", '<a href="%7B%7Bname%7D%7D">x</a>'),
        # Fallbacks, with and without entities.
        ("<p>{{name|R&amp;D <x>}}</p>", None, "<p>R&amp;D &lt;x&gt;</p>"),
        ("<p>{{name|R&D}}</p>", None, "<p>R&amp;D</p>"),
        ("<p>{{name|}}</p>", None, "<p></p>"),
        ('<a href="https://x.example/?a={{name|a b}}">x</a>', None,
         '<a href="https://x.example/?a=a%20b">x</a>'),
        ('<a href="{{name|https://x.example/?a&b}}">x</a>', None,
         '<a href="https://x.example/?a&amp;b">x</a>'),
        # Outlook's comment cannot be left.
        ('<!--[if mso]><v:rect o:href="{{name}}"></v:rect><![endif]-->x', "javascript:x",
         '<!--[if mso]><v:rect o:href="#"></v:rect><![endif]-->x'),
        ("<!--[if mso]><p title='{{name}}'>{{name}}</p><![endif]-->x", "--><script>",
         '<!--[if mso]><p title="--&gt;&lt;script&gt;">--&gt;&lt;script&gt;</p><![endif]-->x'),
    ],
)  # fmt: skip
def test_a_value_is_written_for_its_place(code: str, value: str | None, rendered: str) -> None:
    assert rendered_body(code, value) == rendered


@pytest.mark.parametrize(
    ("code", "body", "warning"),
    [
        ("<p>a<script>alert(1)</script>b</p>", "<p>ab</p>", "SCRIPT_REMOVED"),
        ('<p onclick="x()">a</p>', "<p>a</p>", "EVENT_HANDLER_REMOVED"),
        ('<p OnMouseOver=x>a</p>', "<p>a</p>", "EVENT_HANDLER_REMOVED"),
        ('<a href="javascript:x">a</a>', "<a>a</a>", "URL_REMOVED"),
        ('<a href=" java&#10;script&colon;x">a</a>', "<a>a</a>", "URL_REMOVED"),
        ('<a href="{{name}}:x">a</a>', "<a>a</a>", "URL_REMOVED"),
        ('<img src="data:image/svg+xml,x">', "<img>", "URL_REMOVED"),
        ('<td><table background="javascript:x"></table>', "<table></table>", "URL_REMOVED"),
        ("<iframe src=https://x.example></iframe>", "", "SCRIPT_REMOVED"),
        ("<object data=x><embed src=x></object>", "", "SCRIPT_REMOVED"),
        ('<form action="https://x.example"><input name=a><b>b</b></form>', "<b>b</b>", "FORM_REMOVED"),
        ('<meta http-equiv="refresh" content="0;url=x">', "", "SCRIPT_REMOVED"),
        ("<svg><script>x</script></svg>", "", "UNKNOWN_TAG"),
        ("<blink>a</blink>", "a", "UNKNOWN_TAG"),
        ('<link rel="stylesheet" href="https://x.example/a.css">', "", "REMOTE_STYLE_REMOVED"),
        ("<style>@import url(https://x.example/a.css);</style>", "", "REMOTE_STYLE_REMOVED"),
        ("<p>a<!-- {{name}} --></p>", "<p>a</p>", "PLACEHOLDER_REMOVED"),
        ("<script>{{name}}</script>", "", "PLACEHOLDER_REMOVED"),
        ('<img src="/a.png">', '<img src="/a.png">', "URL_RELATIVE"),
        ('<!--[if mso]><script>x</script><p onclick="x">a</p><![endif]-->',
         "<!--[if mso]><p>a</p><![endif]-->", None),
        ("<!--[if mso]><img src=x onerror=y><![endif]-->", '<!--[if mso]><img src="x"><![endif]-->',
         None),
        ('<!--[if mso]><v:rect o:href="javascript:x" o:onload="x">a</v:rect><![endif]-->',
         "<!--[if mso]><v:rect>a</v:rect><![endif]-->", None),
        ("<!--[if mso]><style>a{} --/**/!> --/**/></style><![endif]-->",
         "<!--[if mso]><style>a{} -- !> -- ></style><![endif]-->", None),
        ("<!--[if x]>--!><script>x</script><![endif]-->", "", None),
        ("<!--[if !mso]><!--><p>a</p><!--<![endif]-->",
         "<!--[if !mso]><!--><p>a</p><!--<![endif]-->", None),
        ('<p title="<!-- &quot;">a</p>', '<p title="&lt;!-- &quot;">a</p>', None),
        ('<p style="color:red;width:expression(alert(1))">a</p>', None, None),
        ('<p style="background:url(javascript:x)">a</p>', None, None),
        (r'<p style="background:u\72l(java\73 cript:x)">a</p>', None, None),
        ('<p style="behavior:url(#x);-moz-binding:url(y)">a</p>', None, None),
    ],
)  # fmt: skip
def test_what_runs_or_submits_is_removed(code: str, body: str | None, warning: str | None) -> None:
    whole = compiled(code).html
    left = body_of(whole).replace('<a href="tsaltx0z">Unsubscribe</a>', "")
    if body is not None:
        assert left == body
    assert not re.search(
        r"<script|<iframe|<form|<svg|expression\(|javascript:|behavior|-moz-binding|@import|\bon\w+=",
        whole,
        re.IGNORECASE,
    )
    if warning is not None:
        assert warning in warning_codes(code)


def test_styles_are_inlined_and_what_cannot_be_is_kept() -> None:
    email = compiled(
        "<style>p { color: red } a:hover { color: blue } "
        '@media (max-width: 9px) { p { color: green } } b::after { content: "</b><script>" }'
        "</style><p>x</p>"
    )
    assert '<p style="color: red;">x</p>' in email.html
    style = email.html.partition("<style>")[2].partition("</style>")[0]
    assert "a:hover { color: blue; }" in style
    assert "@media (max-width: 9px) { p { color: green } }" in style
    assert "<" not in style


def test_the_shell() -> None:
    email = compiled(
        "<html lang=de><head><title>T &amp; t</title></head>"
        '<body bgcolor="#eeeeee" style="color:red" onload="x()"><p>x</p>',
        preheader="Look <here> {{name}}",
    )
    assert email.html.startswith('<!doctype html>\n<html lang="de"')
    for part in (
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>T &amp; t</title>",
        'bgcolor="#eeeeee"',
        "color:red",
        ">Look &lt;here&gt; tsaltx",
    ):
        assert part in email.html
    assert "onload" not in email.html
    assert "here" not in email.text
    assert "display:none" in email.html.partition("Look")[0][-300:]
    assert email.bind(COLUMNS).render(["<", "", ""], "https://u").preheader == "Look <here> <"
    assert 'lang="en"' in compiled("x").html


def test_the_text_part_is_made_from_the_html() -> None:
    email = compiled(
        "<h1>Hi {{name}}</h1><p>One &amp; <b>two</b></p><ul><li>a<li>b</ul>"
        '<p><a href="https://x.example/?q={{city}}&a=1">Shop</a> <a href="{{url}}">Yours</a></p>'
        '<table><tr><td>1<td>2</table><img src="https://x.example/a" alt="A {{name}}"> '
    )
    text = (
        email.bind(COLUMNS).render(["<Ann>", "a b&c", "https://y.example/?a&b"], "https://u").text
    )
    assert text.splitlines() == [
        "Hi <Ann>",
        "",
        "One & two",
        "",
        "  * a",
        "  * b",
        "",
        "[Shop](https://x.example/?q=a%20b%26c&a=1) [Yours](https://y.example/?a&b)",
        "",
        "1  2",
        "",
        "[A <Ann>] [Unsubscribe](https://u)",
    ]


def test_a_given_text_part_is_taken_as_it_is() -> None:
    given = "Hi {{name}} <x> &amp;\n https://x.example/?q={{name}} {{unsubscribe_url}}"
    email = compiled("x", text=given)
    text = email.bind(COLUMNS).render(["a&b c", "", ""], "https://u").text
    assert text == "Hi a&b c <x> &amp;\n https://x.example/?q=a%26b%20c https://u"
    assert "TEXT_WITHOUT_UNSUBSCRIBE_URL" in warning_codes("x", text="Hello")


def test_the_subject_is_one_line() -> None:
    bound = compiled("x", subject="Hi {{name}}").bind(COLUMNS)
    subject = bound.render(["a\r\nBcc: b@x.example\x85c\u2028d\0", "", ""], "https://u").subject
    assert subject == "Hi a Bcc: b@x.example c d"
    assert bound.render(["<b>&", "", ""], "https://u").subject == "Hi <b>&"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (Html("<p>x</p>"), ["TEMPLATE_UNSUBSCRIBE_URL_MISSING"]),
        (Html("<p title='{{unsubscribe_url}}'>x</p>"), ["TEMPLATE_UNSUBSCRIBE_URL_MISSING"]),
        (Html("<!--[if mso]>{{unsubscribe_url}}<![endif]-->x"), ["TEMPLATE_UNSUBSCRIBE_URL_MISSING"]),
        (Html("<img src='{{unsubscribe_url}}'>x"), ["TEMPLATE_UNSUBSCRIBE_URL_MISSING"]),
        (Html("<script>{{unsubscribe_url}}</script>x"), ["TEMPLATE_UNSUBSCRIBE_URL_MISSING"]),
        ("<p>{{nam}} {{name}} {{x}} {{x}}</p>", ["TEMPLATE_UNKNOWN_PLACEHOLDER"] * 2),
        ("<p>{{name</p>", ["TEMPLATE_MALFORMED"]),
        ("<p>{{}} {{1}}</p>", ["TEMPLATE_MALFORMED"] * 2),
        ("<p style='color:{{name}}'>x</p>", ["TEMPLATE_MALFORMED"]),
        ("<style>p { color: {{name}} }</style><p>x</p>", ["TEMPLATE_MALFORMED"]),
        ("<a href='{{url|nothing}}'>x</a>", ["TEMPLATE_MALFORMED"]),
        ("a\0b", ["TEMPLATE_MALFORMED"]),
        (Html(" \n"), ["TEMPLATE_EMPTY"]),
        ("<div>" * 201, ["TEMPLATE_MALFORMED"]),
        ("x" * 1_000_001, ["TEMPLATE_TOO_LONG"]),
        ("{{" * 1_000, ["TEMPLATE_MALFORMED"] * FINDINGS_MAX),
        ("{{name}}" * 2_001, ["TEMPLATE_TOO_LONG"]),
        ("<br>" * 40_001, ["TEMPLATE_TOO_LONG"]),
        ("<style>" + "*,*{color:red}" * 10_000 + "</style>" + "<br>" * 10_000, ["TEMPLATE_TOO_LONG"]),
    ],
)  # fmt: skip
def test_bad_templates_are_refused(code: str | EmailSource, found: list[str]) -> None:
    assert reasons(code) == found


def test_a_template_of_30_mb_is_refused_before_it_is_read() -> None:
    assert reasons("<b>" * 10_000_000) == ["TEMPLATE_TOO_LONG"]
    assert reasons("x", text="x" * 30_000_000) == ["TEMPLATE_TOO_LONG"]


def test_a_text_link_counts_as_the_unsubscribe_link() -> None:
    assert compiled(Html("<p>Leave: {{ unsubscribe_url }}</p>")).names == ()


def test_every_field_is_named() -> None:
    with pytest.raises(InvalidEmail) as caught:
        compiled("{{a}}", subject="{{b}}", preheader="{{c}}", text="{{d}}")
    assert [violation.field for violation in caught.value.violations] == [
        "email.subject",
        "email.preheader",
        "email.text",
        "email.html",
    ]
    with pytest.raises(InvalidEmail, match="line 3"):
        compiled("\n\n{{1}}")


def test_unknown_columns_are_no_fault_before_the_contacts_are_there() -> None:
    email = compiled("{{anything}}", names=None)
    assert email.names == ("anything",)
    with pytest.raises(UnknownPlaceholder):
        email.bind(["other"])


@pytest.mark.parametrize("subject", ["", "  ", "a\nb", "a\r\nBcc: x@x.example", "a\0b", "x" * 999])
def test_bad_subjects(subject: str) -> None:
    assert reasons("x", subject=subject)


def test_a_missing_subject_hides_no_other_fault() -> None:
    with pytest.raises(InvalidEmail) as caught:
        compile_email(Html("<p>{{a}}</p>"), subject="", variable_names=None)
    assert [(v.field, v.reason) for v in caught.value.violations] == [
        ("email.subject", "TEMPLATE_EMPTY"),
        ("email.html", "TEMPLATE_UNSUBSCRIBE_URL_MISSING"),
    ]


def test_many_warnings_of_one_kind_hide_no_other() -> None:
    unknown = "".join(f"<mj-none{n}></mj-none{n}>" for n in range(50))
    mjml = (
        f"<mjml><mj-body><mj-section><mj-column>{unknown}"
        f"<mj-text>{LINK}<script>x</script></mj-text></mj-column></mj-section></mj-body></mjml>"
    )
    found = [warning.code for warning in compiled(Mjml(mjml)).warnings]
    assert found.count("UNKNOWN_TAG") == WARNINGS_PER_CODE_MAX
    assert "SCRIPT_REMOVED" in found


def test_every_warning_is_explained() -> None:
    code = "".join(path.read_text() for path in (ROOT / "outreach" / "email").glob("*.py"))
    code += (ROOT / "services/campaign/usecases/preview_email.py").read_text()
    emitted = set(re.findall(r'(?:_warn\(|EmailWarning\(\s*\w+,)\s*"([A-Z_]+)"', code))
    assert emitted == set(WARNINGS)


def test_sizes_and_the_clip_warning() -> None:
    small = compiled("x")
    room = CLIPPED_ABOVE_BYTES - small.html_bytes
    assert "CLIPPED_BY_GMAIL" not in warning_codes("x" + "x" * room)
    assert "CLIPPED_BY_GMAIL" in warning_codes("x" + "x" * room + "x")
    assert compiled("é").html_bytes == small.html_bytes + 1
    rendered = (
        compiled("{{name}}").bind(COLUMNS).render(["x" * CLIPPED_ABOVE_BYTES, "", ""], "https://u")
    )
    assert rendered.is_clipped
    assert rendered.text_bytes > CLIPPED_ABOVE_BYTES


def test_one_tag_per_variable_and_context() -> None:
    email = compiled(
        '<p title="{{name}}">{{name}} {{name}} {{name|you}}</p><a href="https://x/{{name}}">x</a>',
        subject="{{name}} {{name}}",
    )
    found = [(tag.context, tag.fallback) for tag in email.tags if tag.name == "name"]
    assert len(found) == len(set(found))
    assert set(found) == {
        (Context.HTML, None),
        (Context.HTML, "you"),
        (Context.URL_PART, None),
        (Context.TEXT, None),
        (Context.TEXT, "you"),
        (Context.HEADER, None),
    }
    assert all(re.fullmatch("[a-z0-9]+", tag.tag) for tag in email.tags)


def test_missing_and_not_urls() -> None:
    bound = compiled('{{name}} {{city|x}} <a href="{{url}}">x</a>').bind(COLUMNS)
    assert bound.missing([None, None, ""]) == ("name", "url")
    assert bound.missing(["a", None, "b"]) == ()
    assert bound.not_urls(["a", "b", "ftp://x"]) == ("url",)
    assert bound.not_urls(["a", "b", "https://x"]) == ()
    assert bound.not_urls(["a", "b", None]) == ()


def test_a_column_does_not_replace_the_unsubscribe_link() -> None:
    bound = compiled("x").bind(["unsubscribe_url"])
    substitutions = bound.substitutions(["https://evil.example"], UNSUBSCRIBE_URL)
    assert set(substitutions.values()) == {UNSUBSCRIBE_URL}


def test_a_salt_that_occurs_in_the_template_is_not_used() -> None:
    salts = iter(["abc", "def", "ghi"])
    email = compile_email(
        Html(f"xABCx{LINK}"), subject="def", variable_names=[], salt=lambda: next(salts)
    )
    assert all("ghi" in tag.tag for tag in email.tags)


def test_two_compilations_have_other_tags() -> None:
    first, second = (compile_email(Html(LINK), subject="x", variable_names=[]) for _ in range(2))
    assert not {tag.tag for tag in first.tags} & {tag.tag for tag in second.tags}
    assert first.content_hash != second.content_hash


def test_a_compiled_email_is_stored_and_read() -> None:
    email = compiled("{{name|you}} <blink>", subject="{{city}}", preheader="{{url}}")
    raw = email.to_dict()
    again = CompiledEmail.from_dict(raw)
    assert again == email
    assert (
        again.content_hash
        == email.content_hash
        == compiled("{{name|you}} <blink>", subject="{{city}}", preheader="{{url}}").content_hash
    )
    assert compiled("{{name}}").content_hash != compiled("{{city}}").content_hash
    with pytest.raises(ValueError, match="version 2"):
        CompiledEmail.from_dict(raw | {"version": 2})


MJML = (
    "<mjml><mj-head><mj-title>T</mj-title><mj-style>.big { font-size: 20px }</mj-style></mj-head>\n"
    "<mj-body><mj-section><mj-column>\n"
    '<mj-text css-class="big">Hi {{ name | a < b }} &amp; you</mj-text>\n'
    '<mj-image src="https://x.example/{{city}}.png" alt=\'{{name|"x"}}\' />\n'
    '<mj-button href="{{url}}">Go</mj-button>\n'
    '<mj-raw><p onclick="x">raw<script>alert(1)</script></p></mj-raw>\n'
    "<mj-text>{{unsubscribe_url}}</mj-text></mj-column></mj-section></mj-body></mjml>"
)


def test_mjml() -> None:
    email = compiled(Mjml(MJML))
    html = email.bind(COLUMNS).render([None, "a b", "https://y.example"], UNSUBSCRIBE_URL).html
    assert "Hi a &lt; b &amp; you" in html
    assert 'src="https://x.example/a%20b.png"' in html
    assert 'alt="&quot;x&quot;"' in html
    assert 'href="https://y.example"' in html
    assert "<script" not in html
    assert "onclick" not in html
    assert "<!--[if mso | IE]>" in html
    assert "@media only screen" in html
    assert "googleapis" not in html
    assert UNSUBSCRIBE_URL in html
    assert {"SCRIPT_REMOVED", "EVENT_HANDLER_REMOVED"} == {w.code for w in email.warnings}


@pytest.mark.parametrize(
    ("mjml", "says"),
    [
        ("<mjml>\n<mj-body>\n<mj-text>a</mj-txt></mj-body></mjml>", "line 3: </mj-txt> closes"),
        ("<mjml>\n<mj-body>\n", "line 2: <mj-body> is not closed"),
        ("<mjml>\n<mj-body>\n<mj-text color=red>x</mj-text></mj-body></mjml>", "line 3: a tag"),
        ("<mjml>\n<mj-body><mj-text>1 < 2</mj-text></mj-body></mjml>", "line 2: a tag"),
        ("hello", "mjml"),
        ("<p>x</p>", "mjml"),
        ("<mjml>\n<mj-body>\n<!--[if</mj-body></mjml>", "line 3: a tag"),
        ("<mjml>\n<mj-body>\n<!--[if mso]><b><![endif]--></mj-body></mjml>", "line 3: unexpected"),
        ("<mjml><mj-body><mj-include path='/etc/passwd' /></mj-body></mjml>", "mj-include"),
        (
            "<mjml><mj-body>" + "<b>" * 50_000 + "</b>" * 50_000 + "</mj-body></mjml>",
            "100 elements",
        ),
    ],
)
def test_broken_mjml_is_refused_with_its_line(mjml: str, says: str) -> None:
    with pytest.raises(InvalidEmail) as caught:
        compiled(Mjml(mjml))
    assert [violation.field for violation in caught.value.violations] == ["email.mjml"]
    assert caught.value.violations[0].reason == "TEMPLATE_MALFORMED"
    assert says in caught.value.violations[0].text


def test_unknown_mjml_tags_are_warned_about() -> None:
    email = compiled(Mjml(MJML.replace("<mj-button", "<mj-foo>x</mj-foo><mj-button")))
    unknown = [warning for warning in email.warnings if warning.code == "UNKNOWN_TAG"]
    assert [warning.text for warning in unknown] == [
        "MJML has no <mj-foo> (line 5); its tag is left out."
    ]


def test_two_preheaders_are_warned_about() -> None:
    source = Mjml(MJML.replace("<mj-title>", "<mj-preview>P {{name}}</mj-preview><mj-title>"))
    assert "PREHEADER_TWICE" in warning_codes(source, preheader="Q")
    email = compiled(source)
    assert "PREHEADER_TWICE" not in {warning.code for warning in email.warnings}
    assert ">P tsaltx" in email.html
    assert "P tsaltx" not in email.text


def test_a_large_ordinary_email_is_not_refused() -> None:
    row = "<tr><td style='color:red'><p>One, two<br>{{name}}<td><div><b>x</b></div>"
    sheet = "".join(f".c{n}, .d{n} > p {{ color: red }}\n" for n in range(500))
    table = f"<table>{row * 50}</table>"
    email = compiled(f"<style>{sheet}</style>" + f"<center>{table}</center>" * 20)
    assert email.text.count("One, two") == 1_000
    assert {warning.code for warning in email.warnings} == {"CLIPPED_BY_GMAIL"}


class Shape(html.parser.HTMLParser):
    """The tags of a document and the names of their attributes."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def test_a_whole_document_has_one_of_each_frame() -> None:
    tags = [tag for tag, _ in Shape(compiled(Mjml(MJML)).html).tags]
    assert [tags.count(tag) for tag in ("html", "head", "title", "body")] == [1, 1, 1, 1]

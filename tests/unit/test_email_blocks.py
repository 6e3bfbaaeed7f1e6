"""Blocks. The golden files are what `compiled()` of the blocks below has been looked at as; after a
change that is meant, write them anew and look again.
"""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from outreach.email.block_texts import block_texts
from outreach.email.blocks import (
    Block,
    Blocks,
    Button,
    Columns,
    Divider,
    EmailStyle,
    Heading,
    Image,
    Paragraph,
    Spacer,
    Span,
)
from outreach.email.compile import compile_email
from outreach.email.compiled import CompiledEmail
from outreach.email.findings import InvalidEmail

GOLDEN = Path(__file__).parent / "email_golden"
COLUMNS = ["name", "city", "url"]
UNSUBSCRIBE = Paragraph((Span("Unsubscribe", link="{{unsubscribe_url}}"),), align="center")
ALL_BLOCKS: tuple[Block, ...] = (
    Heading('Hello {{name|you & "yours"}} <3', align="center"),
    Paragraph(
        (
            Span("Plain, "),
            Span("bold", bold=True),
            Span(" and "),
            Span("italic\nwith a break", italic=True),
            Span("; a "),
            Span("link to {{city}}", bold=True, link="https://x.example/?city={{city}}&a=1"),
            Span(" <script>alert(1)</script> {single} & more."),
        )
    ),
    Columns(
        (
            (Image("https://x.example/{{city}}.png", 'A "picture"', width_px=200),),
            (Heading("Right", level=3), Button("Go {{name}}", "{{url|https://x.example/}}")),
        )
    ),
    Divider(),
    Spacer(30),
    UNSUBSCRIBE,
)


def compiled(*blocks: Block, style: EmailStyle | None = None) -> CompiledEmail:
    return compile_email(
        Blocks(blocks, style or EmailStyle()),
        subject="Hi {{name}}",
        preheader="News for {{city}}",
        variable_names=COLUMNS,
        salt=lambda: "salt",
    )


@pytest.mark.parametrize(("name", "part"), [("blocks.html", "html"), ("blocks.txt", "text")])
def test_golden_blocks(name: str, part: str) -> None:
    email = compiled(*ALL_BLOCKS)
    assert getattr(email, part) == (GOLDEN / name).read_text()
    assert not email.warnings


def test_golden_blocks_with_hostile_values() -> None:
    hostile = [
        "</div><script>alert('{{city}}')</script>",
        '"><img src=x onerror=y>',
        "javascript:x",
    ]
    rendered = compiled(*ALL_BLOCKS).bind(COLUMNS).render(hostile, "https://u.example/u")
    assert rendered.html == (GOLDEN / "hostile.html").read_text()
    assert "<script" not in rendered.html
    assert "<img src=x" not in rendered.html
    assert 'href="#"' in rendered.html


@pytest.mark.parametrize(
    ("block", "path", "reason"),
    [
        (Heading(" "), "blocks[0].heading.text", "FIELD_REQUIRED"),
        (Heading("x", level=4), "blocks[0].heading.level", "FIELD_OUT_OF_RANGE"),
        (Heading("{{x"), "blocks[0].heading.text", "TEMPLATE_MALFORMED"),
        (Heading("{{unknown}}"), "blocks[0].heading.text", "TEMPLATE_UNKNOWN_PLACEHOLDER"),
        (Heading("a\0b"), "blocks[0].heading.text", "TEMPLATE_MALFORMED"),
        (
            Paragraph((Span("x", link="javascript:x"),)),
            "blocks[0].text.spans[0].link",
            "FIELD_INVALID",
        ),
        (
            Paragraph((Span("x", link="//x.example"),)),
            "blocks[0].text.spans[0].link",
            "FIELD_INVALID",
        ),
        (Button("x", "x.example"), "blocks[0].button.url", "FIELD_INVALID"),
        (Button("x", " "), "blocks[0].button.url", "FIELD_REQUIRED"),
        (Button("", "https://x.example"), "blocks[0].button.label", "FIELD_REQUIRED"),
        (Image("data:image/png;base64,x"), "blocks[0].image.url", "FIELD_INVALID"),
        (Image("https://x.example", width_px=0), "blocks[0].image.width_px", "FIELD_OUT_OF_RANGE"),
        (Image("https://x.example", link="ftp://x"), "blocks[0].image.link", "FIELD_INVALID"),
        (Spacer(0), "blocks[0].spacer.height_px", "FIELD_OUT_OF_RANGE"),
        (Columns(((Divider(),),)), "blocks[0].columns.columns", "FIELD_OUT_OF_RANGE"),
        (
            Columns(((Divider(),), (Divider(), Button("x", "x")))),
            "blocks[0].columns.columns[1].blocks[1].button.url",
            "FIELD_INVALID",
        ),
    ],
)
def test_bad_blocks_are_named(block: Block, path: str, reason: str) -> None:
    with pytest.raises(InvalidEmail) as caught:
        compiled(block, UNSUBSCRIBE)
    found = [(violation.field, violation.reason) for violation in caught.value.violations]
    # A NUL is found in the whole before the blocks are looked at one by one.
    assert (f"email.blocks.{path}", reason) in found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width_px", 10),
        ("text_color", "red"),
        ("page_color", '#000000" onclick="x'),
        ("font_family", 'Arial"><x'),
        ("button_color", "#12345"),
    ],
)
def test_bad_styles_are_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidEmail) as caught:
        compiled(UNSUBSCRIBE, style=replace(EmailStyle(), **{name: value}))
    assert [violation.field for violation in caught.value.violations] == [
        f"email.blocks.style.{name}"
    ]


def test_the_texts_of_blocks_have_the_paths_of_their_faults() -> None:
    texts = dict(block_texts(Blocks(ALL_BLOCKS), "email.blocks"))
    assert texts["email.blocks.blocks[0].heading.text"].startswith("Hello {{name")
    assert texts["email.blocks.blocks[1].text.spans[5].link"].startswith("https://x.example/")
    button = "email.blocks.blocks[2].columns.columns[1].blocks[1].button"
    assert texts[f"{button}.label"] == "Go {{name}}"
    for path, text in texts.items():
        if text:
            broken = _with_text(ALL_BLOCKS, text, "{{broken")
            with pytest.raises(InvalidEmail) as caught:
                compiled(*broken)
            assert path in {violation.field for violation in caught.value.violations}


def _with_text(value: Any, old: str, new: str) -> Any:
    """The same blocks with another text in every place of this one."""
    if isinstance(value, tuple):
        return tuple(_with_text(each, old, new) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: _with_text(getattr(value, f.name), old, new) for f in fields(value)}
        return replace(value, **parts)
    return new if value == old else value


def test_no_blocks_and_too_many() -> None:
    for blocks, reason in (((), "TEMPLATE_EMPTY"), ((Divider(),) * 501, "TEMPLATE_TOO_LONG")):
        with pytest.raises(InvalidEmail) as caught:
            compiled(*blocks)
        assert caught.value.violations[0].reason == reason


def test_styles_reach_the_html() -> None:
    style = EmailStyle(
        width_px=700, font_family="Georgia, serif", link_color="#aa0000", button_color="#00bb00"
    )
    html = compiled(Button("x", "https://x.example"), UNSUBSCRIBE, style=style).html
    for part in ("max-width:700px", "Georgia, serif", "color: #aa0000", "#00bb00"):
        assert part in html

"""Blocks into MJML. Every text is escaped here; every fault names its block, by the path that it has in
the public protos (`blocks[2].image.width_px`).
"""

import html
import re

from outreach.email.block_texts import kind_of
from outreach.email.blocks import (
    STYLE_DEFAULTS,
    WIDTH_PX_DEFAULT,
    Alignment,
    Block,
    Blocks,
    Button,
    Columns,
    Divider,
    EmailStyle,
    Heading,
    Image,
    Paragraph,
    SimpleBlock,
    Spacer,
    Span,
)
from outreach.email.marks import Marks
from outreach.errors import Violation

BLOCKS_MAX = 500
SPACER_HEIGHT_PX_MAX = 200
SPACER_HEIGHT_PX_DEFAULT = 20

_HEADING_SIZES_PX = {1: 28, 2: 22, 3: 18}
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_FONT_FAMILY = re.compile(r"[A-Za-z0-9 ,'-]{1,200}")
_LINK = re.compile(r"(?:https?://[^\s/?#]|mailto:[^\s]|tel:[+0-9]|sms:[+0-9])\S*", re.IGNORECASE)
_PICTURE = re.compile(r"(?:https?://[^\s/?#]|cid:)\S*", re.IGNORECASE)


def blocks_to_mjml(source: Blocks, field: str, marks: Marks) -> str:
    """The MJML, with marks for placeholders. Faults are added to the marks' violations, and the
    MJML is then not to be used.
    """
    writer = _Writer(marks)
    style = writer.style(source.style, f"{field}.style")
    width_px = WIDTH_PX_DEFAULT if source.style.width_px is None else source.style.width_px
    if not source.blocks:
        writer.refuse(field, "TEMPLATE_EMPTY", "Add at least one block.")
    if sum(map(_blocks_in, source.blocks)) > BLOCKS_MAX:
        writer.refuse(field, "TEMPLATE_TOO_LONG", f"An email has at most {BLOCKS_MAX} blocks.")
        return ""
    body = "".join(
        _section(writer, block, f"{field}.blocks[{index}]")
        for index, block in enumerate(source.blocks)
    )
    return (
        "<mjml><mj-head><mj-attributes>"
        f'<mj-all font-family="{style["font_family"]}" />'
        f'<mj-text color="{style["text_color"]}" font-size="16px" line-height="1.5" />'
        f'<mj-button background-color="{style["button_color"]}" color="{style["button_text_color"]}" />'
        '<mj-section padding="0" /><mj-column padding="0" />'
        "</mj-attributes>"
        f'<mj-style inline="inline">a.text-link {{ color: {style["link_color"]}; }}</mj-style>'
        f'</mj-head><mj-body width="{width_px}px" background-color="{style["page_color"]}">'
        f'<mj-wrapper background-color="{style["content_color"]}" padding="16px 0">{body}</mj-wrapper>'
        "</mj-body></mjml>"
    )


def _blocks_in(block: Block) -> int:
    return 1 + sum(map(len, block.columns)) if isinstance(block, Columns) else 1


def _section(writer: "_Writer", block: Block, path: str) -> str:
    if not isinstance(block, Columns):
        content = f"<mj-column>{writer.block(block, path)}</mj-column>"
        return f"<mj-section>{content}</mj-section>"
    path = f"{path}.{kind_of(block)}"
    if not 2 <= len(block.columns) <= 4:
        writer.refuse(f"{path}.columns", "FIELD_OUT_OF_RANGE", "Give two to four columns.")
    columns = []
    for number, column in enumerate(block.columns):
        inner = "".join(
            writer.block(inner, f"{path}.columns[{number}].blocks[{index}]")
            for index, inner in enumerate(column)
        )
        columns.append(f"<mj-column>{inner}</mj-column>")
    return f"<mj-section>{''.join(columns)}</mj-section>"


class _Writer:
    """Writes blocks, and collects what is wrong with them."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def refuse(self, field: str, reason: str, text: str) -> None:
        self._marks.violations.append(Violation(field, reason, text))

    def block(self, block: SimpleBlock, path: str) -> str:
        path = f"{path}.{kind_of(block)}"
        match block:
            case Heading():
                return self._heading(block, path)
            case Paragraph():
                content = "".join(
                    self._span(span, f"{path}.spans[{index}]")
                    for index, span in enumerate(block.spans)
                )
                return (
                    f'<mj-text align="{self._align(block.align, path, "left")}">{content}</mj-text>'
                )
            case Button():
                return (
                    f'<mj-button align="{self._align(block.align, path, "center")}" '
                    f'href="{self._url(block.url, f"{path}.url", _LINK)}" font-size="16px">'
                    f"{self._text(block.label, f'{path}.label', is_required=True)}</mj-button>"
                )
            case Image():
                return self._image(block, path)
            case Divider():
                return '<mj-divider border-width="1px" border-color="#cccccc" />'
            case Spacer():
                height_px = block.height_px
                if height_px is None:
                    height_px = SPACER_HEIGHT_PX_DEFAULT
                self._range(height_px, 1, SPACER_HEIGHT_PX_MAX, f"{path}.height_px")
                return f'<mj-spacer height="{height_px}px" />'

    def style(self, style: EmailStyle, path: str) -> dict[str, str]:
        """The texts of the style, with defaults for those that are not given."""
        if style.width_px is not None:
            self._range(style.width_px, 320, 800, f"{path}.width_px")
        texts = {name: getattr(style, name) or default for name, default in STYLE_DEFAULTS.items()}
        for name, text in texts.items():
            if name != "font_family" and _COLOR.fullmatch(text) is None:
                self.refuse(f"{path}.{name}", "FIELD_INVALID", "A colour is written #rrggbb.")
        if _FONT_FAMILY.fullmatch(texts["font_family"]) is None:
            self.refuse(
                f"{path}.font_family",
                "FIELD_INVALID",
                "List the fonts by name, separated by commas.",
            )
        return texts

    def _heading(self, block: Heading, path: str) -> str:
        level = 1 if block.level is None else block.level
        self._range(level, 1, 3, f"{path}.level")
        level = min(max(level, 1), 3)
        text = self._text(block.text, f"{path}.text", is_required=True)
        size = _HEADING_SIZES_PX[level]
        return (
            f'<mj-text align="{self._align(block.align, path, "left")}" font-size="{size}px" '
            f'line-height="1.25"><h{level} style="margin:0;font-size:{size}px;">{text}</h{level}>'
            "</mj-text>"
        )

    def _span(self, span: Span, path: str) -> str:
        written = self._text(span.text, f"{path}.text")
        if span.italic:
            written = f"<em>{written}</em>"
        if span.bold:
            written = f"<strong>{written}</strong>"
        if span.link:
            url = self._url(span.link, f"{path}.link", _LINK)
            written = f'<a class="text-link" href="{url}">{written}</a>'
        return written

    def _image(self, block: Image, path: str) -> str:
        width = ""
        if block.width_px is not None:
            self._range(block.width_px, 1, 800, f"{path}.width_px")
            width = f' width="{block.width_px}px"'
        link = ""
        if block.link:
            link = f' href="{self._url(block.link, f"{path}.link", _LINK)}"'
        return (
            f'<mj-image align="{self._align(block.align, path, "center")}" '
            f'src="{self._url(block.url, f"{path}.url", _PICTURE)}" '
            f'alt="{self._text(block.alt, f"{path}.alt")}"{width}{link} />'
        )

    def _text(self, text: str, path: str, *, is_required: bool = False) -> str:
        if is_required and not text.strip():
            self.refuse(path, "FIELD_REQUIRED", "Write a text.")
        if "\0" in text:
            self.refuse(path, "TEMPLATE_MALFORMED", "The text has a NUL character; remove it.")
        escaped = html.escape(self._marks.mark(text, path))
        return re.sub(r"\r\n?|\n", "<br />", escaped) if not path.endswith(".alt") else escaped

    def _url(self, url: str, path: str, form: re.Pattern[str]) -> str:
        marked = self._marks.mark(url.strip(), path)
        if not marked:
            self.refuse(path, "FIELD_REQUIRED", "Give a URL.")
        elif self._marks.pattern.match(marked) is None and form.fullmatch(marked) is None:
            kinds = (
                "an https:// or cid: URL"
                if form is _PICTURE
                else "an https://, mailto: or tel: URL"
            )
            self.refuse(path, "FIELD_INVALID", f"Give {kinds}, or begin with a placeholder.")
        return html.escape(marked)

    def _align(self, align: Alignment | None, path: str, default: Alignment) -> str:
        if align not in {None, "left", "center", "right"}:
            self.refuse(f"{path}.alignment", "FIELD_INVALID", "Align left, center or right.")
        return align or default

    def _range(self, number: int, least: int, most: int, path: str) -> None:
        if not least <= number <= most:
            self.refuse(path, "FIELD_OUT_OF_RANGE", f"Give {least} to {most}.")

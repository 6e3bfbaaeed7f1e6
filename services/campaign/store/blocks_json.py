"""Blocks as they are stored: protobuf's JSON form of EmailBlocks."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from outreach.email.block_texts import kind_of
from outreach.email.blocks import (
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
    Spacer,
    Span,
)

_ALIGNMENTS: Mapping[Alignment, str] = MappingProxyType(
    {"left": "ALIGNMENT_LEFT", "center": "ALIGNMENT_CENTER", "right": "ALIGNMENT_RIGHT"}
)
_WORDS = {name: word for word, name in _ALIGNMENTS.items()}


def blocks_to_json(source: Blocks) -> dict[str, Any]:
    """What `google.protobuf.json_format` would write, without fields that are not set."""
    style = {
        _camel(field.name): value
        for field in fields(EmailStyle)
        if (value := getattr(source.style, field.name))
    }
    return _given({"blocks": [_block(block) for block in source.blocks], "style": style})


def blocks_from_json(raw: dict[str, Any]) -> Blocks:
    """The opposite of `blocks_to_json`."""
    style = raw.get("style", {})
    return Blocks(
        blocks=tuple(_block_from(block) for block in raw.get("blocks", ())),
        style=EmailStyle(
            **{
                field.name: style[_camel(field.name)]
                for field in fields(EmailStyle)
                if _camel(field.name) in style
            }
        ),
    )


def _block(block: Block) -> dict[str, Any]:
    content: dict[str, Any] = {}
    match block:
        case Heading():
            content = {"text": block.text, "level": block.level}
        case Paragraph():
            content = {"spans": [_span(span) for span in block.spans]}
        case Button():
            content = {"label": block.label, "url": block.url}
        case Image():
            content = {"url": block.url, "alt": block.alt, "link": block.link}
            content["widthPx"] = block.width_px
        case Spacer():
            content = {"heightPx": block.height_px}
        case Columns():
            columns = [[_block(inner) for inner in column] for column in block.columns]
            content = {"columns": [_given({"blocks": column}) for column in columns]}
        case Divider():
            pass
    if isinstance(block, Heading | Paragraph | Button | Image) and block.align is not None:
        content["alignment"] = _ALIGNMENTS[block.align]
    return {kind_of(block): _given(content)}


def _span(span: Span) -> dict[str, Any]:
    return _given({"text": span.text, "bold": span.bold, "italic": span.italic, "link": span.link})


def _given(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value}


def _block_from(raw: dict[str, dict[str, Any]]) -> Block:
    ((kind, content),) = raw.items()
    return _READERS[kind](content)


def _align(content: dict[str, Any]) -> Alignment | None:
    name = content.get("alignment")
    return None if name is None else _WORDS[name]


def _columns_from(content: dict[str, Any]) -> Columns:
    columns = []
    for column in content.get("columns", ()):
        inner = [_block_from(block) for block in column.get("blocks", ())]
        columns.append(tuple(block for block in inner if not isinstance(block, Columns)))
    return Columns(tuple(columns))


def _span_from(raw: dict[str, Any]) -> Span:
    return Span(
        text=raw.get("text", ""),
        bold=raw.get("bold", False),
        italic=raw.get("italic", False),
        link=raw.get("link", ""),
    )


_READERS: Mapping[str, Callable[[dict[str, Any]], Block]] = MappingProxyType(
    {
        "heading": lambda raw: Heading(raw.get("text", ""), raw.get("level"), _align(raw)),
        "text": lambda raw: Paragraph(tuple(map(_span_from, raw.get("spans", ()))), _align(raw)),
        "button": lambda raw: Button(raw.get("label", ""), raw.get("url", ""), _align(raw)),
        "image": lambda raw: Image(
            url=raw.get("url", ""),
            alt=raw.get("alt", ""),
            link=raw.get("link", ""),
            width_px=raw.get("widthPx"),
            align=_align(raw),
        ),
        "divider": lambda _: Divider(),
        "spacer": lambda raw: Spacer(raw.get("heightPx")),
        "columns": _columns_from,
    }
)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)

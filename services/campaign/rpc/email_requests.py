"""An email's content as a request gives it, read and bounded."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from outreach.email.blocks import (
    Alignment,
    Block,
    Blocks,
    Button,
    Columns,
    Divider,
    EmailSource,
    EmailStyle,
    Heading,
    Html,
    Image,
    Mjml,
    Paragraph,
    SimpleBlock,
    Spacer,
    Span,
)
from outreach.v1 import campaign_pb2
from services.campaign.domain.content import EmailAddress, EmailContent
from services.campaign.rpc.fields import Fields

#: Blocks, columns and runs of text together: reading them takes some microseconds each, and four megabytes
#: have room for two million. Far above what the compiler takes.
PARTS_MAX = 20_000

_ALIGNMENTS: Mapping[int, Alignment | None] = MappingProxyType(
    {
        campaign_pb2.ALIGNMENT_UNSPECIFIED: None,
        campaign_pb2.ALIGNMENT_LEFT: "left",
        campaign_pb2.ALIGNMENT_CENTER: "center",
        campaign_pb2.ALIGNMENT_RIGHT: "right",
    }
)

_Part = TypeVar("_Part")


def email_of(
    fields: Fields, content: campaign_pb2.EmailContent, path: str = "campaign.email"
) -> EmailContent:
    """The content; an empty text of a body is no body."""
    return EmailContent(
        subject=content.subject,
        from_=_address(getattr(content, "from")) if content.HasField("from") else None,
        reply_to=_address(content.reply_to) if content.HasField("reply_to") else None,
        preheader=content.preheader,
        body=_body(fields, content, path),
        text=content.text,
    )


def _address(address: campaign_pb2.EmailAddress) -> EmailAddress:
    return EmailAddress(address=address.address, display_name=address.display_name)


def _body(fields: Fields, content: campaign_pb2.EmailContent, path: str) -> EmailSource | None:
    match content.WhichOneof("body"):
        case "html" if content.html:
            return Html(content.html)
        case "mjml" if content.mjml:
            return Mjml(content.mjml)
        case "blocks":
            return _BlocksReader(fields).read(content.blocks, f"{path}.blocks")
    return None


class _BlocksReader:
    """Reads blocks, and refuses what is none; stops reading after PARTS_MAX."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._left = PARTS_MAX

    def read(self, source: campaign_pb2.EmailBlocks, path: str) -> Blocks:
        blocks = [
            block
            for index, each in enumerate(self._bounded(source.blocks, path))
            if (block := self._block(each, f"{path}.blocks[{index}]")) is not None
        ]
        return Blocks(tuple(blocks), _style(source.style))

    def _bounded(self, parts: Sequence[_Part], path: str) -> Sequence[_Part]:
        """The parts, or none of them when there are too many in all."""
        self._left -= len(parts)
        if self._left >= 0:
            return parts
        if self._left + len(parts) >= 0:  # told once
            text = f"At most {PARTS_MAX:,} blocks, columns and runs of text in an email."
            self._fields.refuse(path, "TEMPLATE_TOO_LONG", text)
        return ()

    def _block(self, block: campaign_pb2.EmailBlock, path: str) -> Block | None:
        if block.WhichOneof("block") != "columns":
            return self._simple(block, path)
        columns = []
        path = f"{path}.columns"
        for number, column in enumerate(self._bounded(block.columns.columns, path)):
            inside = f"{path}.columns[{number}]"
            blocks = self._bounded(column.blocks, inside)
            inner = [
                self._simple(each, f"{inside}.blocks[{index}]") for index, each in enumerate(blocks)
            ]
            columns.append(tuple(each for each in inner if each is not None))
        return Columns(tuple(columns))

    def _simple(self, block: campaign_pb2.EmailBlock, path: str) -> SimpleBlock | None:
        kind = block.WhichOneof("block")
        path = f"{path}.{kind}"
        match kind:
            case "heading":
                heading = block.heading
                align = self._align(heading.alignment, path)
                return Heading(heading.text, heading.level or None, align)
            case "text":
                spans = self._bounded(block.text.spans, path)
                align = self._align(block.text.alignment, path)
                return Paragraph(tuple(map(_span, spans)), align)
            case "button":
                button = block.button
                return Button(button.label, button.url, self._align(button.alignment, path))
            case "image":
                return self._image(block.image, path)
            case "divider":
                return Divider()
            case "spacer":
                return Spacer(block.spacer.height_px or None)
            case "columns":
                self._fields.refuse(
                    path, "FIELD_INVALID", "Columns do not stand inside of columns."
                )
            case None:
                path = path.removesuffix(".None")
                self._fields.refuse(path, "FIELD_REQUIRED", "Choose what the block is.")
        return None

    def _image(self, image: campaign_pb2.ImageBlock, path: str) -> Image:
        return Image(
            url=image.url,
            alt=image.alt,
            link=image.link,
            width_px=image.width_px or None,
            align=self._align(image.alignment, path),
        )

    def _align(self, number: int, path: str) -> Alignment | None:
        if number not in _ALIGNMENTS:
            text = f"There is no value {number}; choose of LEFT, CENTER, RIGHT."
            self._fields.refuse(f"{path}.alignment", "FIELD_INVALID", text)
        return _ALIGNMENTS.get(number)


def _span(span: campaign_pb2.TextSpan) -> Span:
    return Span(text=span.text, bold=span.bold, italic=span.italic, link=span.link)


def _style(style: campaign_pb2.EmailStyle) -> EmailStyle:
    return EmailStyle(
        width_px=style.width_px or None,
        font_family=style.font_family,
        text_color=style.text_color,
        link_color=style.link_color,
        page_color=style.page_color,
        content_color=style.content_color,
        button_color=style.button_color,
        button_text_color=style.button_text_color,
    )

"""An email's content as the public proto."""

from collections.abc import Mapping
from types import MappingProxyType

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
    Spacer,
)
from outreach.email.findings import EmailWarning
from outreach.v1 import campaign_pb2
from services.campaign.domain.content import EmailAddress, EmailContent

_ALIGNMENTS: Mapping[Alignment | None, campaign_pb2.Alignment.ValueType] = MappingProxyType(
    {
        None: campaign_pb2.ALIGNMENT_UNSPECIFIED,
        "left": campaign_pb2.ALIGNMENT_LEFT,
        "center": campaign_pb2.ALIGNMENT_CENTER,
        "right": campaign_pb2.ALIGNMENT_RIGHT,
    }
)


def email_to_proto(content: EmailContent) -> campaign_pb2.EmailContent:
    """An email campaign's content, as it was given."""
    message = campaign_pb2.EmailContent(
        subject=content.subject,
        reply_to=_address(content.reply_to),
        preheader=content.preheader,
        text=content.text,
    )
    sender = _address(content.from_)
    if sender is not None:
        getattr(message, "from").CopyFrom(sender)
    _add_body(message, content.body)
    return message


def warning_to_proto(warning: EmailWarning) -> campaign_pb2.TemplateWarning:
    """A warning of a template."""
    return campaign_pb2.TemplateWarning(
        field=warning.field, code=warning.code, description=warning.text
    )


def _add_body(message: campaign_pb2.EmailContent, body: EmailSource | None) -> None:
    match body:
        case Html(code):
            message.html = code
        case Mjml(code):
            message.mjml = code
        case Blocks():
            message.blocks.SetInParent()
            for block in body.blocks:
                _add_block(message.blocks.blocks.add(), block)
            if body.style != EmailStyle():
                message.blocks.style.CopyFrom(_style(body.style))
        case None:
            pass


def _address(address: EmailAddress | None) -> campaign_pb2.EmailAddress | None:
    if address is None:
        return None
    return campaign_pb2.EmailAddress(address=address.address, display_name=address.display_name)


def _add_block(message: campaign_pb2.EmailBlock, block: Block) -> None:
    match block:
        case Heading(text, level, align):
            heading = campaign_pb2.HeadingBlock(
                text=text, level=level or 0, alignment=_ALIGNMENTS[align]
            )
            message.heading.CopyFrom(heading)
        case Paragraph(spans, align):
            message.text.alignment = _ALIGNMENTS[align]
            for span in spans:
                message.text.spans.add(
                    text=span.text, bold=span.bold, italic=span.italic, link=span.link
                )
        case Button(label, url, align):
            button = campaign_pb2.ButtonBlock(label=label, url=url, alignment=_ALIGNMENTS[align])
            message.button.CopyFrom(button)
        case Image():
            message.image.CopyFrom(_image(block))
        case Divider():
            message.divider.SetInParent()
        case Spacer(height_px):
            message.spacer.CopyFrom(campaign_pb2.SpacerBlock(height_px=height_px or 0))
        case Columns(columns):
            message.columns.SetInParent()
            for column in columns:
                added = message.columns.columns.add()
                for inner in column:
                    _add_block(added.blocks.add(), inner)


def _image(block: Image) -> campaign_pb2.ImageBlock:
    return campaign_pb2.ImageBlock(
        url=block.url,
        alt=block.alt,
        link=block.link,
        width_px=block.width_px or 0,
        alignment=_ALIGNMENTS[block.align],
    )


def _style(style: EmailStyle) -> campaign_pb2.EmailStyle:
    return campaign_pb2.EmailStyle(
        width_px=style.width_px or 0,
        font_family=style.font_family,
        text_color=style.text_color,
        link_color=style.link_color,
        page_color=style.page_color,
        content_color=style.content_color,
        button_color=style.button_color,
        button_text_color=style.button_text_color,
    )

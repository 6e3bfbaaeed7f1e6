"""The demo's email, made of blocks, with everything the visual editor has."""

from __future__ import annotations

from outreach.v1.campaign_pb2 import (
    ALIGNMENT_CENTER,
    ButtonBlock,
    ColumnsBlock,
    DividerBlock,
    EmailAddress,
    EmailBlock,
    EmailBlocks,
    EmailColumn,
    EmailContent,
    HeadingBlock,
    SpacerBlock,
    TextBlock,
    TextSpan,
)

#: Verified at the sandbox unless it was told otherwise.
SENDER_ADDRESS = "campaigns@outreach.example"


def example_email() -> EmailContent:
    """A newsletter with `first_name`, `city` and `appointment`."""
    content = EmailContent(
        subject="{{first_name|Hello}}, your {{city}} office has news",
        reply_to=EmailAddress(address=SENDER_ADDRESS, display_name="Example team"),
        preheader="Your appointment on {{appointment}}, and what is new.",
        blocks=EmailBlocks(
            blocks=[
                EmailBlock(heading=HeadingBlock(text="Good day, {{first_name|dear reader}}")),
                EmailBlock(
                    text=_text(
                        TextSpan(text="Your appointment at our "),
                        TextSpan(text="{{city}}", bold=True),
                        TextSpan(text=" office is on "),
                        TextSpan(text="{{appointment}}", italic=True),
                        TextSpan(text=". Please bring what you need."),
                    )
                ),
                EmailBlock(
                    button=ButtonBlock(
                        label="See the way to {{city}}",
                        url="https://www.example.com/offices?city={{city}}",
                    )
                ),
                EmailBlock(divider=DividerBlock()),
                EmailBlock(
                    columns=ColumnsBlock(
                        columns=[
                            _column("Opening hours", "Every day from nine to five."),
                            _column("By phone", "Somebody answers, most of the time."),
                        ]
                    )
                ),
                EmailBlock(spacer=SpacerBlock(height_px=24)),
                EmailBlock(
                    text=_text(
                        TextSpan(text="You get this because you asked for it. "),
                        TextSpan(text="Unsubscribe", link="{{unsubscribe_url}}"),
                    )
                ),
            ]
        ),
    )
    content.blocks.blocks[-1].text.alignment = ALIGNMENT_CENTER
    # `from` is a keyword of Python.
    sender = EmailAddress(address=SENDER_ADDRESS, display_name="Example organisation")
    getattr(content, "from").CopyFrom(sender)
    return content


def _text(*spans: TextSpan) -> TextBlock:
    return TextBlock(spans=spans)


def _column(title: str, text: str) -> EmailColumn:
    return EmailColumn(
        blocks=[
            EmailBlock(heading=HeadingBlock(text=title, level=3)),
            EmailBlock(text=_text(TextSpan(text=text))),
        ]
    )

"""What stands in blocks, with the path of each text in the public protos."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from outreach.email.blocks import (
    Block,
    Blocks,
    Button,
    Columns,
    Divider,
    Heading,
    Image,
    Paragraph,
    Spacer,
)

#: The field of `outreach.v1.EmailBlock` that each kind of block has.
KINDS: Mapping[type[Block], str] = MappingProxyType(
    {
        Heading: "heading",
        Paragraph: "text",
        Button: "button",
        Image: "image",
        Divider: "divider",
        Spacer: "spacer",
        Columns: "columns",
    }
)


def kind_of(block: Block) -> str:
    """As in the path `blocks[2].image.width_px`."""
    return KINDS[type(block)]


def block_texts(source: Blocks, field: str) -> Iterator[tuple[str, str]]:
    """Every text and URL that may hold a placeholder, with its path below `field`."""
    for index, block in enumerate(source.blocks):
        yield from _texts(block, f"{field}.blocks[{index}]")


def _texts(block: Block, path: str) -> Iterator[tuple[str, str]]:
    path = f"{path}.{kind_of(block)}"
    match block:
        case Heading():
            yield f"{path}.text", block.text
        case Paragraph():
            for index, span in enumerate(block.spans):
                yield f"{path}.spans[{index}].text", span.text
                yield f"{path}.spans[{index}].link", span.link
        case Button():
            yield f"{path}.url", block.url
            yield f"{path}.label", block.label
        case Image():
            yield f"{path}.url", block.url
            yield f"{path}.alt", block.alt
            yield f"{path}.link", block.link
        case Columns():
            for number, column in enumerate(block.columns):
                for index, inner in enumerate(column):
                    yield from _texts(inner, f"{path}.columns[{number}].blocks[{index}]")
        case Divider() | Spacer():
            pass

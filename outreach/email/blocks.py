"""An email made of blocks, as the visual editor and the API give it.

All texts and URLs may hold placeholders, and are plain: what looks like markup is text. What is not
given (None, or an empty text of a style) stays so, and means its default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Alignment = Literal["left", "center", "right"]


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text in one style. Line breaks are kept; an empty `link` is none."""

    text: str
    bold: bool = False
    italic: bool = False
    link: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` 1 to 3; None: 1."""

    text: str
    level: int | None = None
    align: Alignment | None = None


@dataclass(frozen=True, slots=True)
class Paragraph:
    """The text block."""

    spans: tuple[Span, ...]
    align: Alignment | None = None


@dataclass(frozen=True, slots=True)
class Button:
    """A link that looks like a button."""

    label: str
    url: str
    align: Alignment | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """`width_px` None: as wide as its column. An empty `link` is none."""

    url: str
    alt: str = ""
    link: str = ""
    width_px: int | None = None
    align: Alignment | None = None


@dataclass(frozen=True, slots=True)
class Divider:
    """A thin line."""


@dataclass(frozen=True, slots=True)
class Spacer:
    """Empty room, 1 to 200 px high; None: 20."""

    height_px: int | None = None


SimpleBlock = Heading | Paragraph | Button | Image | Divider | Spacer


@dataclass(frozen=True, slots=True)
class Columns:
    """Two to four columns side by side, below each other on a narrow screen."""

    columns: tuple[tuple[SimpleBlock, ...], ...]


Block = SimpleBlock | Columns


@dataclass(frozen=True, slots=True)
class EmailStyle:
    """Colours are `#rrggbb`; `width_px` 320 to 800; `font_family` as CSS lists it."""

    width_px: int | None = None
    font_family: str = ""
    text_color: str = ""
    link_color: str = ""
    page_color: str = ""
    content_color: str = ""
    button_color: str = ""
    button_text_color: str = ""


WIDTH_PX_DEFAULT = 600
#: The texts of a style that are not given.
STYLE_DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "font_family": "Helvetica, Arial, sans-serif",
        "text_color": "#222222",
        "link_color": "#1155cc",
        "page_color": "#f4f4f4",
        "content_color": "#ffffff",
        "button_color": "#1155cc",
        "button_text_color": "#ffffff",
    }
)


@dataclass(frozen=True, slots=True)
class Blocks:
    """A source of an email: its blocks from top to bottom, and one style for all."""

    blocks: tuple[Block, ...]
    style: EmailStyle = field(default_factory=EmailStyle)


@dataclass(frozen=True, slots=True)
class Html:
    """A source of an email: HTML code, a whole document or a fragment."""

    code: str


@dataclass(frozen=True, slots=True)
class Mjml:
    """A source of an email: MJML."""

    code: str


EmailSource = Html | Mjml | Blocks

"""How large a template may be."""

from dataclasses import dataclass

PREHEADER_CHARACTERS_MAX = 500
#: Of the HTML, MJML or blocks, and of the given plain-text part; UTF-8.
SOURCE_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class EmailLimits:
    """Sizes are of UTF-8. `source_bytes_max` holds for the HTML, MJML or blocks, and for the given
    plain-text part; `html_bytes_max` for what becomes of it. Compiling takes about 0.5 s for each 10,000 tags.
    """

    source_bytes_max: int = SOURCE_BYTES_MAX
    html_bytes_max: int = 2_000_000
    depth_max: int = 200
    tags_max: int = 40_000
    #: Selectors times tags: that many matches are tried, some 20 million a second.
    selector_matches_max: int = 40_000_000

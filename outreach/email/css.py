"""Style sheets and style attributes without what runs, fetches other sheets, or leaves CSS."""

import re

_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\([0-9a-fA-F]{1,6})\s?")
# An escaped letter hides a word from a reader, and from nobody else.
_ESCAPED_LETTER = re.compile(r"\\([g-zG-Z@:(_-])")
_IMPORT = re.compile(r"@import\b(?:\"[^\"]*\"|'[^']*'|[^;\"'])*+;?", re.IGNORECASE)
_RUNS = re.compile(
    r"expression\s*\(|(?:java|vb|live)script\s*:|-moz-binding|\bbehavior\s*:|@charset|@namespace",
    re.IGNORECASE,
)
# Always matches once `url(` stands there: what is not closed or not plain is taken for bad.
_URL = re.compile(r"url\(\s*+(\"[^\"]*\"|'[^']*'|[^)\"']*+)\s*+\)?", re.IGNORECASE)
_URL_KEPT = re.compile(r"https?://|cid:", re.IGNORECASE)


#: More of them than that are no accident.
_PASSES_MAX = 10


def clean_css(css: str) -> str:
    """The CSS without comments, imports, scripting and URLs other than http, https and cid.

    The result has no `<` and no end of a comment, so that it can't end what it stands in.
    """
    css = _ESCAPED_LETTER.sub(r"\1", _ESCAPE.sub(_unescaped, _COMMENT.sub("", css)))
    css = _URL.sub(lambda m: m[0] if _URL_KEPT.match(m[1].strip("\"' \t\n")) else "none", css)
    # What is taken out may join its neighbours to the same word again.
    for _ in range(_PASSES_MAX):
        cleaner = _RUNS.sub("", _IMPORT.sub("", css))
        if cleaner == css:
            break
        css = cleaner
    else:
        return ""
    css = css.replace("\0", "").replace("<", "\\3C ")
    return css.replace("-->", "-- >").replace("--!>", "-- !>")


def _unescaped(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    char = chr(code) if code < 0x80 else ""
    return char if char and (char.isalnum() or char in "@:(_-") else match[0]


def count_selectors(markup: str) -> int:
    """About how many selectors the style elements have; rather too many than too few."""
    sheets = [rest.partition("</style")[0] for rest in markup.lower().split("<style")[1:]]
    return sum(sheet.count("{") + sheet.count(",") for sheet in sheets)

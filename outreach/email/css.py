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
_URL = re.compile(r"url\(\s*([\"']?)(.*?)\1\s*\)", re.IGNORECASE | re.DOTALL)
_URL_KEPT = re.compile(r"https?://|cid:", re.IGNORECASE)


def clean_css(css: str) -> str:
    """The CSS without comments, imports, scripting and URLs other than http, https and cid.

    The result has no `<`, so that it can't end its element.
    """
    css = _ESCAPED_LETTER.sub(r"\1", _ESCAPE.sub(_unescaped, _COMMENT.sub("", css)))
    css = _URL.sub(lambda m: m[0] if _URL_KEPT.match(m[2].strip()) else "none", css)
    # What is taken out may join its neighbours to the same word again.
    for pattern in (_IMPORT, _RUNS):
        while pattern.search(css):
            css = pattern.sub("", css)
    return css.replace("<", "\\3C ").replace("-->", "-- >").replace("\0", "")


def _unescaped(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    char = chr(code) if code < 0x80 else ""
    return char if char and (char.isalnum() or char in "@:(_-") else match[0]

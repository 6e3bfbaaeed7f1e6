"""How deep a parser would nest a source: the native parsers recurse, and a deep enough template
would end the process.

Measured: mrml and css-inline overflow the stack between 5,000 and 50,000 levels, and nh3 takes time
by the square of the depth.
"""

import re

from outreach.email.markup import VOID_ELEMENTS, names

_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/><]*)")
# From the HTML standard: what a parser opens again in the next block when it was not closed, and
# what stops the search for an end tag's element.
_FORMATTING = names("a b big code em font i nobr s small strike strong tt u")
_TABLE = names("table caption colgroup tbody thead tfoot tr td th")
_AROUND_TABLE_PARTS = names("table template html svg math select caption")
_ENDS_IN_TABLE = {
    "td": names("td th"),
    "th": names("td th"),
    "tr": names("tr"),
    "tbody": names("tbody thead tfoot"),
    "tfoot": names("tbody thead tfoot"),
}
# Their end tags may be left out.
_ENDED_BY_OTHERS = names("p li dd dt option")
_BLOCKS = names(
    "address applet article aside blockquote body button center dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 head header hgroup html "
    "iframe li listing main marquee menu nav noembed noframes noscript object ol p plaintext pre "
    "script search section select style summary template textarea title ul xmp svg math"
)
_SPECIAL = _BLOCKS | _TABLE
_ENDING_NOTHING = _SPECIAL - _ENDED_BY_OTHERS
_REOPENED_MAX = 1_000_000


def is_too_deep(source: str, depth_max: int) -> bool:
    """Whether an HTML parser might nest the source deeper than `depth_max` elements, or might
    multiply what was left unclosed. Never guesses too low by
    more than a few; looks into scripts and comments too, as parsers do not agree on where those are.
    """
    stack: list[str] = []
    reopened = 0
    for tags, (closing, raw_name) in enumerate(_TAG.findall(source)):
        name = raw_name.lower()
        if name in _TABLE and name != "table" and "table" not in stack:
            continue
        if not closing:
            if name not in VOID_ELEMENTS:
                _open(stack, name)
        else:
            reopened += _close(stack, name)
        if len(stack) + reopened > depth_max or reopened * tags > _REOPENED_MAX:
            return True
    return False


def _open(stack: list[str], name: str) -> None:
    """Push what the start tag opens, after what it ends: the row or cell before it, a paragraph."""
    ended = _ENDS_IN_TABLE.get(name, frozenset())
    if ended:
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] in ended:
                del stack[index:]
                break
            if stack[index] in _AROUND_TABLE_PARTS:
                break
    elif stack and name == stack[-1] and name in _ENDED_BY_OTHERS:
        stack.pop()
    stack.append(name)


def _close(stack: list[str], name: str) -> int:
    """Pop what the end tag closes; how many formatting elements it leaves to be opened again."""
    if name in _TABLE:
        barriers = _AROUND_TABLE_PARTS
    elif name in _BLOCKS and name != "p":
        barriers = _ENDING_NOTHING
    else:
        # A block has closed the paragraph that it seems to stand in.
        barriers = _SPECIAL
    for index in range(len(stack) - 1, -1, -1):
        if stack[index] == name:
            left = sum(element in _FORMATTING for element in stack[index + 1 :])
            del stack[index:]
            return left
        if stack[index] in barriers:
            return 0
    return 0

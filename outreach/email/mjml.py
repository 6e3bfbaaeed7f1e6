"""MJML into HTML, with the line of what is broken and of what is unknown."""

import re
from dataclasses import dataclass

import mrml

from outreach.email.findings import FINDINGS_MAX, EmailWarning, line_of
from outreach.email.markup import VOID_ELEMENTS, names
from outreach.errors import Violation

KNOWN_TAGS = names(
    "mjml mj-head mj-body mj-include mj-attributes mj-all mj-class mj-breakpoint mj-font "
    "mj-html-attributes mj-selector mj-html-attribute mj-preview mj-style mj-title mj-accordion "
    "mj-accordion-element mj-accordion-title mj-accordion-text mj-button mj-carousel "
    "mj-carousel-image mj-column mj-divider mj-group mj-hero mj-image mj-navbar mj-navbar-link "
    "mj-raw mj-section mj-social mj-social-element mj-spacer mj-table mj-text mj-wrapper"
)
#: Above this mrml is not asked: it recurses.
DEPTH_MAX = 100

_POSITION = re.compile(r" at position ([0-9]+):[0-9]+$")
_TOKEN = re.compile(
    r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<!(?!--)[^>]*>|<\?.*?\?>"
    r"|<(?P<closing>/?)(?P<name>[a-zA-Z][\w:-]*+)"
    r"(?P<attributes>(?:\s++[\w:.-]++\s*=\s*(?:\"[^\"]*\"|'[^']*'))*+)\s*(?P<closed>/?)>"
    r"|(?P<broken><)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class CompiledMjml:
    """`has_preview`: an mj-preview has put a preheader into the HTML."""

    html: str
    has_preview: bool
    warnings: tuple[EmailWarning, ...]


class BrokenMjml(ValueError):
    """The MJML cannot be compiled."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.text)
        self.violation = violation


def compile_mjml(source: str, field: str) -> CompiledMjml:
    """Compile; raises BrokenMjml.

    `mj-include` is refused, and no font is fetched: the text's own font-family decides.
    """
    scan = _Scan(source)
    if scan.is_too_deep:
        raise BrokenMjml(_broken(field, f"more than {DEPTH_MAX} elements inside each other"))
    if scan.fault is not None:
        raise BrokenMjml(_broken(field, scan.fault))
    if "<mj-include" in source:
        line = line_of(source, source.index("<mj-include"))
        raise BrokenMjml(_broken(field, f"line {line}: mj-include is not supported"))
    try:
        output = mrml.to_html(source, render_options=mrml.RenderOptions(fonts={}))
    except (OSError, ValueError) as error:
        raise BrokenMjml(_broken(field, _with_line(str(error), source))) from error
    except BaseException as error:
        # Some faults end mrml's parser by a panic, which has no class that can be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise BrokenMjml(_broken(field, "the parser gave up on it")) from error
    warnings = tuple(
        EmailWarning(
            field, "UNKNOWN_TAG", f"MJML has no <{name}> (line {line}); its tag is left out."
        )
        for name, line in scan.unknown.items()
    )
    return CompiledMjml(output.content, output.preview is not None, warnings)


def _with_line(fault: str, source: str) -> str:
    """The words of mrml, with a line in place of its position in bytes."""
    position = _POSITION.search(fault)
    if position is None:
        return fault
    line = source.encode()[: int(position[1])].count(b"\n") + 1
    return f"line {line}: {fault[: position.start()]}"


def _broken(field: str, what: str) -> Violation:
    return Violation(field, "TEMPLATE_MALFORMED", f"The MJML is broken: {what}.")


class _Scan:
    """The first fault of the source by the rules of XML, its unknown tags, its depth."""

    def __init__(self, source: str) -> None:
        self.fault: str | None = None
        self.unknown: dict[str, int] = {}
        self.is_too_deep = False
        self._source = source
        self._stack: list[tuple[str, int]] = []
        first = next((match for match in _TOKEN.finditer(source) if match["name"]), None)
        if first is None or first["name"] != "mjml":
            self.fault = "line 1: MJML begins with <mjml>"
        for match in _TOKEN.finditer(source):
            if match["broken"]:
                self._found(match.start(), "a tag that is not well formed, or a `<` that is text")
            elif match["name"]:
                self._tag(match)
        if self._stack:
            name, position = self._stack[-1]
            self._found(position, f"<{name}> is not closed")

    def _tag(self, match: re.Match[str]) -> None:
        name, position = match["name"], match.start()
        is_unknown = name.startswith("mj") and name not in KNOWN_TAGS
        if is_unknown and name not in self.unknown and len(self.unknown) < FINDINGS_MAX:
            self.unknown[name] = line_of(self._source, position)
        if match["closing"]:
            if not self._stack or self._stack[-1][0].lower() != name.lower():
                opened = f", while <{self._stack[-1][0]}> is open" if self._stack else ""
                self._found(position, f"</{name}> closes nothing{opened}")
            self._close(name)
        elif not match["closed"] and name.lower() not in VOID_ELEMENTS:
            self._stack.append((name, position))
            self.is_too_deep |= len(self._stack) > DEPTH_MAX

    def _close(self, name: str) -> None:
        if any(opened == name for opened, _ in self._stack[-DEPTH_MAX:]):
            while self._stack.pop()[0] != name:
                pass

    def _found(self, position: int, what: str) -> None:
        if self.fault is None:
            self.fault = f"line {line_of(self._source, position)}: {what}"

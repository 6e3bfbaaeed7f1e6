"""What became of an email's template: compiled, or why not. Pure."""

from dataclasses import dataclass

from outreach.email.findings import EmailWarning
from outreach.errors import Violation


@dataclass(frozen=True, slots=True)
class TemplateReport:
    """What is told of a compiled email without reading it.

    Sizes are of UTF-8, before values are in it. `names` are the variables it uses, without
    `unsubscribe_url`; `sha256` (lower-case hexadecimal) names the compiled email itself.
    """

    html_bytes: int
    text_bytes: int
    names: tuple[str, ...]
    warnings: tuple[EmailWarning, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Compilation:
    """`report` and `compiled` (JSON of CompiledEmail), or the `faults` that kept it from being
    compiled, with paths below `email`.
    """

    report: TemplateReport | None = None
    compiled: bytes | None = None
    faults: tuple[Violation, ...] = ()

"""Compile an email's template: beside the event loop, and outside of any transaction."""

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson

from outreach.email.compile import compile_email
from outreach.email.compiled import CompiledEmail
from outreach.email.findings import InvalidEmail
from outreach.email.headers import check_subject
from outreach.errors import Violation
from services.campaign.domain.compilation import Compilation, TemplateReport
from services.campaign.domain.content import EmailContent

#: Each takes a core for up to some seconds; more of them wait.
COMPILATIONS_AT_ONCE_MAX = 2
#: A sender gets it in one message of gRPC, together with the columns.
COMPILED_BYTES_MAX = 3_500_000
#: How often an update is begun again because another one changed the template while this one's was
#: being compiled. Of updates at once at least one is done each time.
ROUNDS_MAX = 10


class TemplateChangedError(Exception):
    """The template is not the one that was compiled; the transaction is over."""


class TemplateCompiler:
    """Compiles in threads of its own, COMPILATIONS_AT_ONCE_MAX at once. A call that is given up
    leaves its thread taken until the compilation is done: no more of them ever run. `compilation_of`
    does the work.
    """

    def __init__(self, compilation_of: Callable[[EmailContent], Compilation] | None = None) -> None:
        self._compilation_of = compilation_of or compilation_of_email
        self._threads = ThreadPoolExecutor(
            COMPILATIONS_AT_ONCE_MAX, thread_name_prefix="compile-template"
        )

    async def __call__(self, content: EmailContent) -> Compilation:
        """Not to be awaited with a connection in hand."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._compilation_of, content)


def compilation_of_email(content: EmailContent) -> Compilation:
    """Up to some seconds of work."""
    if content.body is None:
        empty = Violation(content.body_field, "TEMPLATE_EMPTY", "Write the email.")
        return Compilation(faults=(*check_subject("email.subject", content.subject), empty))
    try:
        email = compile_email(
            content.body,
            subject=content.subject,
            preheader=content.preheader,
            text=content.text,
            variable_names=None,  # they are checked by the report's names, now and at the import
            field="email",
        )
    except InvalidEmail as error:
        return Compilation(faults=error.violations)
    return _kept(content, email)


def _kept(content: EmailContent, email: CompiledEmail) -> Compilation:
    compiled = orjson.dumps(email.to_dict())
    if len(compiled) > COMPILED_BYTES_MAX:
        text = f"What is made of it has {len(compiled):,} bytes, at most {COMPILED_BYTES_MAX:,}; shorten it."
        return Compilation(faults=(Violation(content.body_field, "TEMPLATE_TOO_LONG", text),))
    report = TemplateReport(
        html_bytes=email.html_bytes,
        text_bytes=email.text_bytes,
        names=email.names,
        warnings=email.warnings,
        sha256=hashlib.sha256(compiled).hexdigest(),
    )
    return Compilation(report, compiled)

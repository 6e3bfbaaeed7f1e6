"""Which headers a request may set."""

import re
from typing import Any

from services.sandbox.sendgrid.errors import FieldError

RESERVED_HEADERS = frozenset(
    {"x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type"}
    | {"content-transfer-encoding", "to", "from", "subject", "reply-to", "cc", "bcc"}
)

# RFC 5322: printable ASCII without the colon.
_NAME = re.compile(r"[!-9;-~]+")
_BREAKS = re.compile(r"[\r\n\0]")


def check_headers(given: Any, path: str, errors: list[FieldError]) -> None:
    """Add the errors of a `headers` object; `path` is where it stands."""
    if given is None:
        return

    def add(message: str, field: str) -> None:
        errors.append(FieldError(message, field, "message.headers"))

    if not isinstance(given, dict):
        add("The headers param must be an object.", path)
        return
    seen: set[str] = set()
    for name, value in given.items():
        field = f"{path}.{name}"
        lower = name.lower()
        if not _NAME.fullmatch(name):
            add("Header keys cannot contain non-ASCII characters and empty spaces.", field)
        if lower in RESERVED_HEADERS:
            add(f"Header can not be one of the reserved keys. You provided {name}.", field)
        if lower in seen:
            add("The headers cannot contain duplicate keys.", path)
        seen.add(lower)
        if not isinstance(value, str):
            add("The header values must be strings.", field)
        elif _BREAKS.search(value):
            add("The header values cannot contain CRLF characters.", field)

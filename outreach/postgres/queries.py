"""SQL in files, each statement under a name: no SQL is built from strings in Python.

    -- name: release_claims
    -- Comments between the name and the statement are sent along; the server ignores them.
    UPDATE ...

A module takes its statements when it is imported, so a misspelt name fails there and not in the
first call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import LiteralString

_NAME_LINE = re.compile(r"^-- name:(?P<name>.*)$")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class QueryError(Exception):
    """A file of named statements is malformed, or lacks the one asked for."""


class Queries(Mapping[str, LiteralString]):
    """The statements of one file by name; asking for one that is not there says which are."""

    def __init__(self, source: str, statements: Mapping[str, LiteralString]) -> None:
        self._source = source
        self._statements = dict(statements)

    def __getitem__(self, name: str) -> LiteralString:
        try:
            return self._statements[name]
        except KeyError:
            known = ", ".join(sorted(self._statements))
            raise QueryError(f"{self._source} has no statement {name!r}; it has: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def load_queries(package: str, name: str) -> Queries:
    """The statements of the file `name` (with its suffix) in `package`.

    Raises:
        QueryError: no such file, text before the first name, a name that is malformed or used
            twice, or a name without a statement.
    """
    source = f"{package}/{name}"
    try:
        text = files(package).joinpath(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise QueryError(f"{source} does not exist") from None
    return parse_queries(text, source)


def parse_queries(text: str, source: str) -> Queries:
    """The statements of `text`; `source` names it in errors. Raises as `load_queries` does."""
    statements: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        heading = _NAME_LINE.match(line)
        if heading is not None:
            name = heading["name"].strip()
            if _NAME.fullmatch(name) is None:
                raise QueryError(f"{source}:{number}: {name!r} is no name: lower_case letters")
            if name in statements:
                raise QueryError(f"{source}:{number}: {name!r} is there twice")
            current = statements[name] = []
        elif current is not None:
            current.append(line)
        elif line.strip() and not line.lstrip().startswith("--"):
            raise QueryError(f"{source}:{number}: a statement without a name")
    return Queries(
        source, {name: _statement(source, name, body) for name, body in statements.items()}
    )


def _statement(source: str, name: str, body: list[str]) -> LiteralString:
    if all(not line.strip() or line.lstrip().startswith("--") for line in body):
        raise QueryError(f"{source}: {name!r} has no statement")
    # A file of the distribution is as literal as a string in the code.
    return "\n".join(body).strip().removesuffix(";")

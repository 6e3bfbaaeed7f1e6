"""What a room of the sandbox sees of HTTP: a request, an answer, and how JSON becomes one."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Request:
    """`path` and `query` are as on the wire (percent-encoded), `path` without the query.

    `body_cut`: the body was longer than any limit, and what is here is only its beginning.
    `arrived`: when all of it was read, in seconds since the epoch.
    """

    method: str
    path: str
    query: str
    authorization: str
    body: bytes
    content_type: str = ""
    body_cut: bool = False
    arrived: float = field(default_factory=time.time)

    def form(self) -> dict[str, str]:
        """The form of the body; the last of repeated fields wins.

        Raises:
            ValueError: it is no form (not UTF-8, too many fields).
        """
        text = self.body.decode("utf-8")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=100))

    def parameters(self) -> dict[str, str]:
        """The parameters of the query; the last of repeated ones wins."""
        return dict(parse_qsl(self.query, keep_blank_values=True, max_num_fields=100))


@dataclass(frozen=True, slots=True)
class Answer:
    """`dropped`: no answer at all; the TCP connection is closed instead."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    dropped: bool = False


Handler = Callable[[Request], Awaitable[Answer]]


def json_answer(
    status: int, value: Any, headers: Mapping[str, str] = _JSON, *, indent: bool = False
) -> Answer:
    """An answer with a JSON body."""
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None)
    return Answer(status, body, headers)

"""Log lines hold no error's text: it may quote a recipient."""

import json
import logging
from collections.abc import Iterator

import asyncpg
import pytest
import structlog

from outreach.logs import configure_logs

RECIPIENT = "+14155550123"


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _fail() -> None:
    refused = asyncpg.CheckViolationError(f"Failing row contains ({RECIPIENT}).")
    refused.constraint_name = "message_status_known"
    try:
        raise refused
    except asyncpg.CheckViolationError as error:
        raise ExceptionGroup(RECIPIENT, [ValueError(RECIPIENT)]) from error


@pytest.mark.parametrize("ours", [True, False])
def test_an_exception_tells_classes_and_places_only(
    capsys: pytest.CaptureFixture[str], ours: bool
) -> None:
    configure_logs(level="INFO", service="test")
    try:
        _fail()
    except ExceptionGroup:
        if ours:
            structlog.get_logger().exception("failed")
        else:
            logging.getLogger("a library").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told["event"] == "failed"
    assert RECIPIENT not in line
    for part in (
        "asyncpg.exceptions.CheckViolationError sqlstate=23514",
        "constraint_name=message_status_known",
        "which led to",
        "ExceptionGroup",
        "ValueError",
        "in _fail",
    ):
        assert part in told["exception"]

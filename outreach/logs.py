"""Logs: structured, one JSON line an event, ids only."""

import logging
import sys
import traceback

import structlog

# What PostgreSQL's errors name without quoting a value.
_SAFE_ATTRIBUTES = ("sqlstate", "table_name", "column_name", "constraint_name")


def configure_logs(*, level: str, service: str) -> None:
    """Set up structlog and the libraries' own logging for this process, on standard error.

    `level` as in the standard library (`INFO`). Every line names the service.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        exception_without_text,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak up when something is wrong; their routine is not ours to tell.
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("asyncpg.pool").filters[:] = [_UnreachableDatabase()]


class _UnreachableDatabase(logging.Filter):
    """asyncpg's pool tells each try to connect with a traceback: here it is one line, and no fault of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not record.getMessage().startswith("Failed to restore the pool connection floor"):
            return True
        structlog.get_logger(__name__).warning(
            "connections_not_restored", error=type(error).__name__
        )
        return False


def exception_without_text(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A processor: `exc_info` becomes `exception`, with classes and places but no error's text.

    Texts quote data: PostgreSQL's the row that it refused, an HTTP parser's the request. They
    would put recipients and message texts into the log.
    """
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["exception"] = _places(error)
    return event


def _places(error: BaseException) -> str:
    """The traceback, its causes first, as in the standard library's, each error by its class."""
    lines = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        lines.append(f"{_places(cause)}\nwhich led to:\n")
    lines += traceback.format_tb(error.__traceback__)
    kind = type(error)
    named = {name: getattr(error, name, None) for name in _SAFE_ATTRIBUTES}
    known = " ".join(f"{name}={value}" for name, value in named.items() if value)
    lines.append(f"{kind.__module__}.{kind.__qualname__} {known}".rstrip())
    if isinstance(error, BaseExceptionGroup):
        for number, part in enumerate(error.exceptions, 1):
            lines.append(f"\nerror {number} of the group:\n{_places(part)}")
    return "".join(lines)

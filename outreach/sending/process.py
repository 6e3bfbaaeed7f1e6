"""A sender as a process: its settings, its signals, its exit code."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import uvloop
from pydantic import ValidationError

from outreach.background import BackgroundTaskEnded
from outreach.logs import configure_logs
from outreach.sending.settings import SendingSettings

SettingsT = TypeVar("SettingsT", bound=SendingSettings)
#: Runs a sender until the event is set.
Serve = Callable[[SettingsT, asyncio.Event], Awaitable[None]]

_log = structlog.get_logger(__name__)


def start_sender(name: str, settings_type: type[SettingsT], serve: Serve[SettingsT]) -> int:
    """Send until SIGTERM; 2 when a setting is missing or wrong, 1 when it could not go on."""
    try:
        settings = settings_type()
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            field = "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"OUTREACH_{field}: {fault['msg']}\n")
        return 2
    configure_logs(level=settings.log_level, service=name)
    return uvloop.run(_until_signal(settings, serve))


async def _until_signal(settings: SettingsT, serve: Serve[SettingsT]) -> int:
    """Run until SIGTERM or SIGINT. Gives the exit code: 1 when it could not go on, as the log says."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    exit_code = 0
    # No SystemExit in here: it would leave inside of a group, which is no exit but a traceback.
    try:
        await serve(settings, stop)
    except* BackgroundTaskEnded:
        exit_code = 1
    except* OSError as failures:
        _log.error("stopped_by_error", errors=[str(error) for error in failures.exceptions])
        exit_code = 1
    return exit_code

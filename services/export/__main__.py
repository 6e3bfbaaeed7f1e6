"""`python -m services.export`."""

import sys

import uvloop
from pydantic import ValidationError

from outreach.background import BackgroundTaskEnded
from outreach.logs import configure_logs
from services.export.app import serve
from services.export.settings import Settings


def main() -> int:
    """Serve until SIGTERM; 2 when a setting is missing or wrong, 1 when it could not go on."""
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"OUTREACH_{name}: {fault['msg']}\n")
        return 2
    configure_logs(level=settings.log_level, service="export")
    exit_code = 0
    try:
        uvloop.run(serve(settings))
    except* BackgroundTaskEnded:
        # Told in the log; whoever supervises the process starts it again.
        exit_code = 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())

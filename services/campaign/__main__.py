"""`python -m services.campaign`."""

import sys

import uvloop
from pydantic import ValidationError

from outreach.logs import configure_logs
from services.campaign.app import serve
from services.campaign.settings import Settings


def main() -> int:
    """Serve until SIGTERM; 2 when a setting is missing or wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"OUTREACH_{name}: {fault['msg']}\n")
        return 2
    configure_logs(level=settings.log_level, service="campaign")
    uvloop.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())

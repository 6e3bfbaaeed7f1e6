"""How long a loop waits after a turn that failed."""

import random

PAUSE_SECONDS_MIN = 0.25
PAUSE_SECONDS_MAX = 5.0


class Pause:
    """From `PAUSE_SECONDS_MIN`, doubling to `PAUSE_SECONDS_MAX` while turns fail; a success starts it anew.

    A database that is away for an hour is then not asked, nor told of in the log, four times a second; and one that is
    back is found within seconds.
    """

    def __init__(self) -> None:
        self._next_seconds = PAUSE_SECONDS_MIN

    def after_failure(self) -> float:
        """Seconds to wait now, up to a quarter less so that replicas do not come back in step."""
        seconds = self._next_seconds
        self._next_seconds = min(seconds * 2, PAUSE_SECONDS_MAX)
        return seconds * random.uniform(0.75, 1.0)

    def reset(self) -> None:
        """A turn succeeded."""
        self._next_seconds = PAUSE_SECONDS_MIN

"""Whether a provider is out: it answers one request after the other such that nobody knows what became of them.

Each such request leaves its messages in doubt, and they are never sent again. So a provider that says nothing else is
asked rarely, with one request at a time, until it says something. Pure; the clock's readings are passed in.
"""

from typing import Final

#: By chance so many messages are hardly ever left in doubt in a row. A large request has more: one is enough then.
UNKNOWN_IN_A_ROW_MAX: Final = 8
#: Between two tries while it is out: at first, and at most; doubled each time.
REST_SECONDS_MIN: Final = 0.5
REST_SECONDS_MAX: Final = 15.0


class OutageGuard:
    """What the answers of one provider account say about it."""

    __slots__ = ("_in_a_row", "_rest_seconds", "_rested_at")

    def __init__(self) -> None:
        self._rested_at = float("-inf")
        self.on_known()

    @property
    def is_out(self) -> bool:
        """Whether only tries should be made: one message at a time, after a rest."""
        return self._in_a_row >= UNKNOWN_IN_A_ROW_MAX

    def on_known(self) -> None:
        """An answer said what became of its request."""
        self._in_a_row = 0
        self._rest_seconds = REST_SECONDS_MIN

    def on_unknown(self, messages: int, *, begun_seconds: float, now_seconds: float) -> float:
        """An answer left it open what became of so many, or none came. Gives how long to rest now; 0: not at all.

        Requests that began before the latest rest say nothing new.
        """
        if begun_seconds <= self._rested_at:
            return 0.0
        self._in_a_row += messages
        if not self.is_out:
            return 0.0
        rest_seconds = self._rest_seconds
        self._rest_seconds = min(2 * rest_seconds, REST_SECONDS_MAX)
        self._rested_at = now_seconds
        return rest_seconds

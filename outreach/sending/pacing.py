"""How many requests to have at the provider at once: found out, because it is not published.

Additive increase, multiplicative decrease, as in TCP: the limit doubles each round until the first
throttling, then grows by one a round; a throttling cuts it. Pure; the clock's readings are passed
in.
"""

_CUT = 0.7


class AdaptiveConcurrency:
    """The limit for one provider account.

    `start`, `limit_max`: requests at once; the limit stays between 1 and `limit_max`.
    """

    __slots__ = ("_credit", "_cut_time", "_limit_max", "_slow_start", "limit")

    def __init__(self, *, start: int, limit_max: int) -> None:
        self._limit_max = limit_max
        self.limit = min(start, limit_max)
        self._slow_start = True
        self._credit = 0.0
        self._cut_time = float("-inf")

    def on_answer(self, *, at_limit: bool) -> None:
        """A request was answered. `at_limit`: as many were under way as the limit allowed.

        Below the limit an answer proves nothing about more, so nothing grows.
        """
        if not at_limit or self.limit >= self._limit_max:
            return
        self._credit += 1.0 if self._slow_start else 1.0 / self.limit
        if self._credit >= 1.0:
            self._credit -= 1.0
            self.limit += 1

    def on_throttled(
        self, *, begun_seconds: float, now_seconds: float, concurrent_requests: int | None
    ) -> None:
        """The provider turned a request away.

        Requests that began before the latest cut say nothing new. `concurrent_requests` is what the
        provider counted for the account (other senders included): never aim above it.
        """
        if begun_seconds <= self._cut_time:
            return
        self._cut_time = now_seconds
        self._slow_start = False
        self._credit = 0.0
        reached = min(self.limit, concurrent_requests or self.limit)
        self.limit = max(1, int(reached * _CUT))

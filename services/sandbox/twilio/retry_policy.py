"""Twilio's webhook overrides: what a callback URL's fragment says about time-outs and retries.

`#rc=0..5&rp=4xx,5xx,ct,rt,all&ct=100..10000&rt=100..15000`, times in milliseconds; by default one
retry, and only if the connection could not be made.
Source: https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides.
"""

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl

from services.sandbox.webhooks import Failure

RETRIES_MAX = 5
_WEIGHTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, after what, and how long to wait for connection and answer."""

    retries_max: int = 1
    retried: frozenset[str] = frozenset({"ct"})
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 15.0

    def allows(self, outcome: int | Failure, retries_made: int) -> bool:
        """Whether a callback with this status, or this failure, is to be made again."""
        if isinstance(outcome, Failure):
            kind = outcome.value
        elif outcome < 400:
            return False
        else:
            kind = f"{outcome // 100}xx"
        return retries_made < self.retries_max and bool(self.retried & {kind, "all"})


@lru_cache(maxsize=256)
def retry_policy(fragment: str) -> RetryPolicy:
    """The policy of a URL's fragment; what it does not say, or says wrongly, is as by default."""
    said = dict(parse_qsl(fragment))
    default = RetryPolicy()
    kinds = frozenset(said.get("rp", "").split(",")) & {"4xx", "5xx", "ct", "rt", "all"}
    return RetryPolicy(
        retries_max=_number(said.get("rc"), 0, RETRIES_MAX, default.retries_max),
        retried=kinds or default.retried,
        connect_timeout_seconds=_number(said.get("ct"), 100, 10_000, 5_000) / 1000,
        read_timeout_seconds=_number(said.get("rt"), 100, 15_000, 15_000) / 1000,
    )


def retry_delay_seconds(retries_made: int, all_retries_seconds: float) -> float:
    """Wait before the next retry: each is twice the one before, five of them take all the time."""
    return all_retries_seconds * _WEIGHTS[retries_made] / sum(_WEIGHTS)


def _number(text: str | None, least: int, most: int, default: int) -> int:
    if text is None or not text.isdecimal() or not least <= int(text) <= most:
        return default
    return int(text)

"""A wall clock that can be made to jump, for one process.

What Python code asks for (`time.time`, `time.time_ns`, `datetime.now`, `utcnow`, `today`) is shifted; monotonic
clocks are not, nor is what other languages' code reads by itself. To be installed before the modules that take
`datetime` from its module are imported.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

_RealDatetime = dt.datetime
_real_time = time.time
_real_time_ns = time.time_ns
_shift_seconds = 0.0


def shift(seconds: float) -> None:
    """The wall clock is so far ahead (behind, if negative) of the machine's from now on."""
    global _shift_seconds
    _shift_seconds = seconds


def install() -> None:
    """Put the shifted clock in the place of the machine's."""
    time.time = _time
    time.time_ns = _time_ns
    setattr(dt, "datetime", _Datetime)  # noqa: B010 - a type can't be assigned to


def _time() -> float:
    return _real_time() + _shift_seconds


def _time_ns() -> int:
    return _real_time_ns() + int(_shift_seconds * 1_000_000_000)


class _DatetimeType(type):
    """Makes the class below stand for the real one where types are asked for."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _RealDatetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _RealDatetime)


class _Datetime(_RealDatetime, metaclass=_DatetimeType):
    """`datetime` by the shifted clock. Its values are real ones: C code tells subclasses from them."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _RealDatetime(*args, **kwargs)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _RealDatetime.fromtimestamp(_time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _RealDatetime.fromtimestamp(_time(), dt.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return _RealDatetime.fromtimestamp(_time())

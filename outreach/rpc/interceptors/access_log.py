"""One line a call: method, outcome, duration, who. Never what was asked or answered."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import structlog

from outreach.rpc.around import Around, AroundInterceptor, Context, Incoming, service_of
from outreach.rpc.call import current_call

_log = structlog.get_logger("outreach.rpc")


class AccessLogInterceptor(AroundInterceptor):
    """Logs when a call ends. `quiet_services` (health checks) are told at debug level."""

    def __init__(self, *, quiet_services: frozenset[str] = frozenset()) -> None:
        self._quiet_services = quiet_services

    def around(self, call: Incoming) -> Around:
        return self._logged(call.method, call.context)

    @asynccontextmanager
    async def _logged(self, method: str, context: Context) -> AsyncIterator[None]:
        begin = time.monotonic()
        outcome: str | None = None
        try:
            yield
        except asyncio.CancelledError:
            outcome = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            # The handler chose its status itself; a refusal of the catalogue has its reason instead.
            outcome = _status_name(context.code())
            raise
        finally:
            call = current_call()
            caller = call.caller
            log = _log.debug if service_of(method) in self._quiet_services else _log.info
            log(
                "call",
                method=method,
                outcome=call.reason or outcome or "OK",
                duration_ms=round((time.monotonic() - begin) * 1000, 1),
                organisation_id=str(caller.organisation_id) if caller else None,
                key_label=caller.key_label if caller else None,
            )


def _status_name(code: grpc.StatusCode | int) -> str:
    """grpc.aio gives the number of a status that was set by `abort`."""
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), str(code))

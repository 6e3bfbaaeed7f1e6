"""The one translator at the edge: whatever a handler raises becomes a status of the catalogue."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import structlog

from outreach.errors import OutreachError
from outreach.postgres.outage import is_outage
from outreach.rpc.around import Around, AroundInterceptor, Context, Incoming
from outreach.rpc.call import current_call
from outreach.rpc.errors import CATALOGUE, DETAILS_KEY, REQUEST_ID_KEY, status_code_of, to_status

_log = structlog.get_logger("outreach.rpc")

_INTERNAL_TEXT = "Something went wrong on our side. The request id finds it in our logs."
_UNAVAILABLE_TEXT = (
    "The database can't be reached now. Call again; with the same request_id nothing is done twice."
)


class ErrorInterceptor(AroundInterceptor):
    """Catalogued errors go to the caller as they are; others as INTERNAL, without their text."""

    def around(self, call: Incoming) -> Around:
        return self._translated(call.method, call.context)

    @asynccontextmanager
    async def _translated(self, method: str, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except (OutreachError, grpc.aio.AbortError) as error:
            if isinstance(error, grpc.aio.AbortError):
                raise  # the handler chose its status itself (grpc's health service)
            if error.reason in CATALOGUE:
                await _abort(context, error)
            _log.exception("error reason outside of the catalogue", method=method)
            await _abort(context, OutreachError("INTERNAL", _INTERNAL_TEXT))
        except Exception as error:  # noqa: BLE001 - the edge: nothing may pass untranslated
            if is_outage(error):
                _log.warning("store unavailable", method=method, error=type(error).__name__)
                await _abort(context, OutreachError("STORE_UNAVAILABLE", _UNAVAILABLE_TEXT))
            _log.exception("call failed", method=method)
            await _abort(context, OutreachError("INTERNAL", _INTERNAL_TEXT))


async def _abort(context: Context, error: OutreachError) -> None:
    """Ends the call; always raises."""
    call = current_call()
    call.reason = error.reason
    status = to_status(error, request_id=call.request_id)
    await context.abort(
        status_code_of(error.reason),
        error.text,
        (
            (DETAILS_KEY, status.SerializeToString()),
            (REQUEST_ID_KEY, call.request_id),
        ),
    )

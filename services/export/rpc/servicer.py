"""ExportService."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from outreach.errors import OutreachError
from outreach.rpc.call import current_caller
from outreach.rpc.fields import Fields
from outreach.rpc.filters import campaign_filter_of, message_filter_of
from outreach.v1 import export_pb2, export_pb2_grpc
from services.export.domain.columns import CAMPAIGN_COLUMNS, chosen, message_columns
from services.export.domain.csv_lines import CsvLines
from services.export.rpc.stream import Context, CsvStream, export_changed, send
from services.export.store import Pool
from services.export.store.steps import (
    CampaignHead,
    CampaignSteps,
    MessageSteps,
    campaign_head,
    count_campaigns,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTerms:
    """`streams_max` exports at the same time; a reader may take nothing for `write_seconds_max`."""

    streams_max: int
    write_seconds_max: float


class ExportServicer(export_pb2_grpc.ExportServiceServicer):
    """See export.proto."""

    def __init__(self, pool: Pool, terms: ExportTerms) -> None:
        self._pool = pool
        self._terms = terms
        self._open: set[asyncio.Timeout] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._draining = False

    # Coroutines that write, as grpc.aio also serves them: only so can a write have a time-out.
    async def ExportMessages(  # type: ignore[override] # the stubs know generators only
        self, request: export_pb2.ExportMessagesRequest, context: Context
    ) -> None:
        """See export.proto."""
        organisation_id, fields = current_caller().organisation_id, Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        where = message_filter_of(fields, request.filter)
        if request.offset_bytes < 0:
            fields.refuse("offset_bytes", "FIELD_OUT_OF_RANGE", "Give 0, or how much has arrived.")
        if request.offset_bytes > 0 and request.revision < 1:
            text = "With an offset, give the revision that the earlier export began with."
            fields.refuse("revision", "FIELD_REQUIRED", text)
        fields.check()
        async with self._exporting():
            head = await campaign_head(self._pool, organisation_id, campaign_id)
            lines = CsvLines(
                chosen(request.columns, message_columns(head.variable_names)), safe=not request.raw
            )
            _check_offset(request, head)
            stream = self._stream(context, request.offset_bytes)
            await stream.start(
                export_pb2.ExportStart(
                    revision=head.revision, resumable=head.is_final, rows_max=head.rows_max(where)
                )
            )
            steps = MessageSteps(self._pool, lines, organisation_id, campaign_id, head, where)
            await send(stream, steps, lines, revision=head.revision)

    async def ExportCampaigns(  # type: ignore[override] # the stubs know generators only
        self, request: export_pb2.ExportCampaignsRequest, context: Context
    ) -> None:
        """See export.proto."""
        organisation_id, fields = current_caller().organisation_id, Fields()
        where = campaign_filter_of(fields, request.filter)
        fields.check()
        lines = CsvLines(chosen(request.columns, CAMPAIGN_COLUMNS), safe=not request.raw)
        async with self._exporting():
            stream = self._stream(context, 0)
            rows_max = await count_campaigns(self._pool, organisation_id)
            await stream.start(export_pb2.ExportStart(rows_max=rows_max))
            steps = CampaignSteps(self._pool, lines, organisation_id, where)
            await send(stream, steps, lines)

    async def finished(self, *, seconds_max: float) -> None:
        """Take no new export, and wait for those that are under way, but no longer than that."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds_max):
                await self._all_closed.wait()
        except TimeoutError:
            return

    def end_streams(self) -> None:
        """End what is under way with SERVER_DRAINING."""
        self._draining = True
        now = asyncio.get_running_loop().time()
        for limit in self._open:
            limit.reschedule(now)

    def _stream(self, context: Context, offset_bytes: int) -> CsvStream:
        return CsvStream(
            context,
            offset_bytes=offset_bytes,
            write_seconds_max=self._terms.write_seconds_max,
        )

    @asynccontextmanager
    async def _exporting(self) -> AsyncIterator[None]:
        """One of the exports that may be under way; SERVER_DRAINING, EXPORTS_BUSY."""
        if self._draining:
            raise _draining()
        if len(self._open) >= self._terms.streams_max:
            raise OutreachError("EXPORTS_BUSY", "Too many exports are under way. Try again later.")
        try:
            async with asyncio.timeout(None) as limit:
                self._open.add(limit)
                self._all_closed.clear()
                try:
                    yield
                finally:
                    self._open.discard(limit)
                    if not self._open:
                        self._all_closed.set()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise _draining() from error


def _check_offset(request: export_pb2.ExportMessagesRequest, head: CampaignHead) -> None:
    if request.offset_bytes and not (head.is_final and head.revision == request.revision):
        raise export_changed()


def _draining() -> OutreachError:
    return OutreachError(
        "SERVER_DRAINING", "The server is being stopped. Export again; another one answers."
    )

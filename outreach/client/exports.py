"""The calls of `outreach.v1.ExportService`: CSV files that arrive whole or not at all."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol, cast

import grpc

from outreach.client.connection import Connection, Timeouts, heard
from outreach.client.errors import CallError
from outreach.client.streams import Pauses, cut, ended
from outreach.v1 import campaign_pb2, export_pb2, export_pb2_grpc, message_pb2
from outreach.v1.channel_pb2 import CHANNEL_UNSPECIFIED, Channel
from outreach.v1.failure_reason_pb2 import FailureReason

#: Of a file that is not whole yet, after its name.
PART_SUFFIX = ".part"

# Called with rows so far (about), at most so many, and bytes so far.
ExportProgress = Callable[[int, int, int], None]


class _Call(Protocol):
    def __aiter__(self) -> AsyncIterator[export_pb2.ExportResponse]: ...

    def cancel(self) -> bool: ...


def packed(out: IO[bytes]) -> IO[bytes]:
    """Compresses into `out`, without a name and a time in it: the same export is the same file."""
    return cast("IO[bytes]", gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=0))


class CsvExport:
    """One export: an async iterator of the file's bytes, or `save` for a file.

    A stream that is cut is gone on with at the same byte while the campaign is final; how the file
    was made does not show in it. At the end size and checksum are compared with the service's.

    Attributes:
        start: what the service said first: the revision, whether it can be gone on with, how many
            rows will come at most. None before the first bytes.
        end: rows, size and checksum. None before the end.
        size_bytes: what has arrived.

    Raises:
        CallError: a refusal; EXPORT_CHANGED when the campaign changed while the stream was cut;
            what cut the stream when it can't be gone on with (the campaign is not final);
            DATA_LOSS when the checksum differs.
    """

    def __init__(self, opened: Callable[[int, int], _Call], timeouts: Timeouts) -> None:
        self._opened = opened
        self._timeouts = timeouts
        self._begin()

    def _begin(self) -> None:
        self.start: export_pb2.ExportStart | None = None
        self.end: export_pb2.ExportEnd | None = None
        self.size_bytes = 0
        self._rows = -1  # the header is none
        self._sha256 = hashlib.sha256()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._begin()
        pauses, loop = Pauses(), asyncio.get_running_loop()
        heard_seconds = loop.time()
        while True:
            call = self._opened(self.size_bytes, self.start.revision if self.start else 0)
            try:
                async for response in heard(
                    aiter(call), silence_seconds_max=self._timeouts.silence_seconds_max
                ):
                    pauses.reset()
                    heard_seconds = loop.time()
                    chunk = self._take(response)
                    if chunk:
                        yield chunk
                    if self.end is not None:
                        return
                cut_by = ended()
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                cut_by = cut(error)
            finally:
                call.cancel()
            if (
                not self._can_go_on
                or loop.time() - heard_seconds > self._timeouts.retry_seconds_max
            ):
                raise cut_by
            await pauses.wait()

    async def save(
        self,
        path: Path,
        *,
        compress: bool = False,
        on_progress: ExportProgress | None = None,
    ) -> export_pb2.ExportEnd:
        """Write the file, under this name only once it is whole; gives its end.

        An export that is cut and can't be gone on with begins anew, up to
        `Timeouts.retry_seconds_max`. `compress`: by gzip; size and checksum are of what is inside.
        """
        pauses, loop = Pauses(), asyncio.get_running_loop()
        give_up_seconds = loop.time() + self._timeouts.retry_seconds_max
        # A pipe or a device is written to as it is.
        plain = path.is_file() or not path.exists()
        part = path.with_name(path.name + PART_SUFFIX) if plain else path
        try:
            while True:
                try:
                    end = await self._write(part, compress, on_progress)
                    break
                except CallError as error:
                    cut_anew = error.code in (
                        grpc.StatusCode.UNAVAILABLE,
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                    )
                    if not plain or not cut_anew or loop.time() > give_up_seconds:
                        raise
                await pauses.wait()
            if plain:
                part.replace(path)
        except BaseException:
            if plain:
                part.unlink(missing_ok=True)
            raise
        return end

    async def _write(
        self, path: Path, compress: bool, on_progress: ExportProgress | None
    ) -> export_pb2.ExportEnd:
        with path.open("wb") as file:
            out = packed(file) if compress else file
            async for chunk in self:
                await asyncio.to_thread(out.write, chunk)
                self.tell(on_progress)
            if compress:
                await asyncio.to_thread(out.close)
        assert self.end is not None
        return self.end

    def tell(self, on_progress: ExportProgress | None) -> None:
        """How far it is."""
        if on_progress is not None and self.start is not None:
            on_progress(
                max(0, min(self._rows, self.start.rows_max)), self.start.rows_max, self.size_bytes
            )

    @property
    def _can_go_on(self) -> bool:
        return not self.size_bytes or (self.start is not None and self.start.resumable)

    def _take(self, response: export_pb2.ExportResponse) -> bytes:
        part = response.WhichOneof("part")
        if part == "start":
            # The first one counts: when the stream is opened anew with nothing read, so is the export.
            if not self.size_bytes:
                self.start = response.start
        elif part == "end":
            self._check(response.end)
            self.end = response.end
        elif part == "chunk":
            self._sha256.update(response.chunk)
            self.size_bytes += len(response.chunk)
            self._rows += response.chunk.count(b"\r\n")
            return response.chunk
        return b""

    def _check(self, end: export_pb2.ExportEnd) -> None:
        if (end.size_bytes, end.sha256) != (self.size_bytes, self._sha256.hexdigest()):
            raise CallError(
                "DATA_LOSS",
                "What arrived is not what was sent: size or checksum differ. Export again.",
                code=grpc.StatusCode.DATA_LOSS,
            )


class ExportCalls(Connection):
    """CSV files, from a service with an address of its own (`export_address`). See `export.proto`."""

    def export_messages(
        self,
        campaign_id: str,
        *,
        columns: Sequence[str] = (),
        statuses: Sequence[message_pb2.MessageStatus.ValueType] = (),
        failure_reasons: Sequence[FailureReason.ValueType] = (),
        recipient: str = "",
        recipient_contains: str = "",
        run: int = 0,
        raw: bool = False,
    ) -> CsvExport:
        """One campaign's messages, all or those that match, by number.

        Args:
            campaign_id: in any state.
            columns: names as in `export.proto`, in the order wanted; empty: all.
            statuses: any of these.
            failure_reasons: any of these.
            recipient: the whole recipient.
            recipient_contains: a part of it, 3 to 100 characters.
            run: what this run handled last.
            raw: cells as they are, also those that a spreadsheet takes for formulas.
        """
        request = export_pb2.ExportMessagesRequest(
            campaign_id=campaign_id,
            columns=columns,
            raw=raw,
            filter=message_pb2.MessageFilter(
                statuses=statuses,
                failure_reasons=failure_reasons,
                recipient=recipient,
                recipient_contains=recipient_contains,
                run=run,
            ),
        )

        def opened(offset_bytes: int, revision: int) -> _Call:
            request.offset_bytes = offset_bytes
            request.revision = revision if offset_bytes else 0
            return self._exports.ExportMessages(request, metadata=self._metadata)

        return CsvExport(opened, self.timeouts)

    def export_campaigns(
        self,
        *,
        columns: Sequence[str] = (),
        channel: Channel.ValueType = CHANNEL_UNSPECIFIED,
        statuses: Sequence[campaign_pb2.CampaignStatus.ValueType] = (),
        name_contains: str = "",
        raw: bool = False,
    ) -> CsvExport:
        """The organisation's campaigns, all or those that match, newest first."""
        request = export_pb2.ExportCampaignsRequest(
            columns=columns,
            raw=raw,
            filter=campaign_pb2.CampaignFilter(
                channel=channel, statuses=statuses, name_contains=name_contains
            ),
        )

        def opened(_offset_bytes: int, _revision: int) -> _Call:
            return self._exports.ExportCampaigns(request, metadata=self._metadata)

        return CsvExport(opened, self.timeouts)

    @cached_property
    def _exports(self) -> export_pb2_grpc.ExportServiceAsyncStub:
        self._export_channel = self._open_channel(self.export_address)
        return export_pb2_grpc.ExportServiceStub(self._export_channel)

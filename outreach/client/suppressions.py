"""The calls of `outreach.v1.SuppressionService`: who opted out, and the erasure of a person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from pathlib import Path

from outreach.client.connection import Connection, new_request_id
from outreach.client.uploads import (
    Source,
    UploadProgress,
    chunks_of,
    framed,
    size_of,
    uploaded,
)
from outreach.v1 import suppression_pb2, suppression_pb2_grpc
from outreach.v1.channel_pb2 import CHANNEL_UNSPECIFIED, Channel

_PAGE_SIZE_MAX = 1_000


class SuppressionCalls(Connection):
    """Recipients that are never sent to. Every call raises `CallError` (`suppression.proto`)."""

    async def list_suppressions(
        self,
        *,
        channel: Channel.ValueType = CHANNEL_UNSPECIFIED,
        page_size: int = 0,
        page_token: str = "",
    ) -> suppression_pb2.ListSuppressionsResponse:
        """One page, newest first; `all_suppressions` reads every page."""
        request = suppression_pb2.ListSuppressionsRequest(
            channel=channel, page_size=page_size, page_token=page_token
        )
        return await self._call(self._suppressions.ListSuppressions, request)

    async def all_suppressions(
        self, *, channel: Channel.ValueType = CHANNEL_UNSPECIFIED
    ) -> AsyncIterator[suppression_pb2.Suppression]:
        """Every one, newest first, page after page."""
        page_token = ""
        while True:
            page = await self.list_suppressions(
                channel=channel, page_size=_PAGE_SIZE_MAX, page_token=page_token
            )
            for suppression in page.suppressions:
                yield suppression
            page_token = page.next_page_token
            if not page_token:
                return

    async def get_suppression(
        self, channel: Channel.ValueType, recipient: str
    ) -> suppression_pb2.Suppression:
        """Whether the recipient opted out: SUPPRESSION_NOT_FOUND when not."""
        request = suppression_pb2.GetSuppressionRequest(channel=channel, recipient=recipient)
        return await self._call(self._suppressions.GetSuppression, request)

    async def create_suppression(
        self, channel: Channel.ValueType, recipient: str, *, request_id: str | None = None
    ) -> suppression_pb2.Suppression:
        """Never send to the recipient; one that is on the list stays as it is."""
        request = suppression_pb2.CreateSuppressionRequest(
            channel=channel, recipient=recipient, request_id=request_id or new_request_id()
        )
        return await self._call(self._suppressions.CreateSuppression, request)

    async def delete_suppression(
        self, channel: Channel.ValueType, recipient: str, *, request_id: str | None = None
    ) -> None:
        """Allow sending again; whoever does this has the recipient's consent."""
        request = suppression_pb2.DeleteSuppressionRequest(
            channel=channel, recipient=recipient, request_id=request_id or new_request_id()
        )
        await self._call(self._suppressions.DeleteSuppression, request)

    async def import_suppressions(
        self,
        channel: Channel.ValueType,
        source: Source,
        *,
        file_name: str | None = None,
        column: str = "",
        has_header: bool | None = None,
        size_bytes: int | None = None,
        request_id: str | None = None,
        on_progress: UploadProgress | None = None,
    ) -> suppression_pb2.ImportSuppressionsResponse:
        """Add all recipients of a CSV file, all or nothing.

        A path or bytes are sent again from the start, with the same request id, while the service
        is unavailable; an iterator can be read only once, so its upload is tried once.

        Args:
            channel: which the recipients opted out of.
            source: the file, its bytes, or an iterator of pieces of any size.
            file_name: must end in `.csv`; by default the path's name, else `suppressions.csv`.
            column: the recipients' column; by default the one that looks like it.
            has_header: overrules the detection.
            size_bytes: of an iterator's file, when known; a shorter file is then refused.
            request_id: made here unless given.
            on_progress: called after each chunk.
        """
        if isinstance(source, Path | bytes):
            size_bytes = await size_of(source)
        if isinstance(source, Path):
            file_name = file_name or source.name
        header = suppression_pb2.SuppressionFileHeader(
            channel=channel,
            file_name=file_name or "suppressions.csv",
            column=column,
            has_header=has_header,
            size_bytes=size_bytes or 0,
            request_id=request_id or new_request_id(),
        )

        async def once() -> suppression_pb2.ImportSuppressionsResponse:
            call = self._suppressions.ImportSuppressions(
                timeout=self.timeouts.transfer_seconds, metadata=self._metadata
            )
            frames = framed(
                suppression_pb2.ImportSuppressionsRequest(header=header),
                chunks_of(source, size_bytes, on_progress),
                lambda chunk: suppression_pb2.ImportSuppressionsRequest(chunk=chunk),
            )
            return await uploaded(call, frames)

        if isinstance(source, Path | bytes):
            return await self._repeat(once)
        return await once()

    async def erase_person(
        self, channel: Channel.ValueType, recipient: str, *, request_id: str | None = None
    ) -> suppression_pb2.ErasePersonResponse:
        """Remove a person's data from every campaign, and keep only a keyed hash, suppressed.

        It cannot be undone. A call that broke off is repeated, and tells of the rest only.
        """
        request = suppression_pb2.ErasePersonRequest(
            channel=channel, recipient=recipient, request_id=request_id or new_request_id()
        )
        return await self._call(
            self._suppressions.ErasePerson, request, timeout_seconds=self.timeouts.erase_seconds
        )

    @cached_property
    def _suppressions(self) -> suppression_pb2_grpc.SuppressionServiceAsyncStub:
        return suppression_pb2_grpc.SuppressionServiceStub(self._channel)

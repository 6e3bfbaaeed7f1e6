"""The calls of `outreach.v1.ContactService`: upload a file, import it, read what was wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import cached_property
from pathlib import Path

import grpc

from outreach.client.connection import Connection, new_request_id
from outreach.client.errors import CallError, call_error
from outreach.v1 import contact_pb2, contact_pb2_grpc

CHUNK_BYTES_MAX = 64 * 1024
_READ_BYTES = 1024 * 1024
# What grpc.aio says in place of the service's status (its call.pyx, `set_internal_error`).
_STATUS_LOST = "Internal error from Core"
_PROBLEMS_PAGE_SIZE_MAX = 1_000

# Called with the bytes given to the connection so far, and the size when it is known.
UploadProgress = Callable[[int, int | None], None]
ImportProgress = Callable[[contact_pb2.ImportProgress], None]


class ContactCalls(Connection):
    """Contacts come as a CSV file. Every call raises `CallError` (`contact.proto`)."""

    async def upload_contacts(
        self,
        campaign_id: str,
        source: Path | bytes | AsyncIterator[bytes],
        *,
        consent_confirmed: bool,
        file_name: str | None = None,
        has_header: bool | None = None,
        mapping: contact_pb2.ContactMapping | None = None,
        size_bytes: int | None = None,
        on_progress: UploadProgress | None = None,
    ) -> contact_pb2.ContactUpload:
        """Send a CSV file.

        A path or bytes are sent again from the start while the service is unavailable; an
        iterator can be read only once, so its upload is tried once.

        Args:
            campaign_id: whose contacts these are.
            source: the file, its bytes, or an iterator of pieces of any size.
            consent_confirmed: every contact in the file consented to be contacted. Without it
                nothing is stored.
            file_name: must end in `.csv`; by default the path's name, else `contacts.csv`.
            has_header: overrules the detection.
            mapping: what the columns are for, when that is known before the file is read.
            size_bytes: of an iterator's file, when known; a shorter file is then refused.
            on_progress: called after each chunk.
        """
        if isinstance(source, Path):
            size_bytes = (await asyncio.to_thread(source.stat)).st_size
            file_name = file_name or source.name
        elif isinstance(source, bytes):
            size_bytes = len(source)
        header = contact_pb2.UploadHeader(
            campaign_id=campaign_id,
            consent_confirmed=consent_confirmed,
            file_name=file_name or "contacts.csv",
            has_header=has_header,
            mapping=mapping,
            size_bytes=size_bytes or 0,
        )

        async def once() -> contact_pb2.ContactUpload:
            call = self._contacts.UploadContacts(
                timeout=self.timeouts.transfer_seconds, metadata=self._metadata
            )
            frames = _frames(header, _pieces(source), size_bytes, on_progress)
            writing = asyncio.create_task(_write_all(call, frames))
            over = asyncio.create_task(call.code())
            try:
                # The call may end while the source gives nothing: a lost connection, a closed client.
                await asyncio.wait({writing, over}, return_when=asyncio.FIRST_COMPLETED)
                if writing.done():
                    writing.result()
                return await call
            except grpc.aio.AioRpcError as error:
                raise _upload_error(error) from error
            except asyncio.CancelledError:
                if not call.cancelled() or _is_cancelled():
                    raise
                raise _client_closed() from None
            finally:
                call.cancel()
                writing.cancel()
                over.cancel()
                await asyncio.gather(writing, over, return_exceptions=True)

        if isinstance(source, Path | bytes):
            return await self._repeat(once)
        return await once()

    async def import_contacts(
        self,
        campaign_id: str,
        upload_id: str,
        *,
        mapping: contact_pb2.ContactMapping | None = None,
        keep_duplicates: bool = False,
        has_header: bool | None = None,
        request_id: str | None = None,
        on_progress: ImportProgress | None = None,
    ) -> contact_pb2.ImportResult:
        """Make contacts of the uploaded file, all or nothing.

        Args:
            campaign_id: whose contacts these become.
            upload_id: from the upload.
            mapping: what the columns are for; without it the upload's mapping or suggestion.
            keep_duplicates: keep contacts whose recipient was seen before in the file.
            has_header: overrules what the upload found.
            request_id: made here unless given.
            on_progress: called as the import goes on. After a lost connection the import is
                asked for again with the same request id, and progress may start anew.
        """
        request = contact_pb2.ImportContactsRequest(
            campaign_id=campaign_id,
            upload_id=upload_id,
            mapping=mapping,
            keep_duplicates=keep_duplicates,
            has_header=has_header,
            request_id=request_id or new_request_id(),
        )

        async def once() -> contact_pb2.ImportResult:
            call = self._contacts.ImportContacts(
                request, timeout=self.timeouts.transfer_seconds, metadata=self._metadata
            )
            try:
                async for response in call:
                    if response.WhichOneof("event") == "result":
                        return response.result
                    if on_progress is not None:
                        on_progress(response.progress)
            except grpc.aio.AioRpcError as error:
                raise call_error(error) from error
            finally:
                call.cancel()
            raise CallError(
                "UNAVAILABLE",
                "The service ended the import's stream without a result.",
                code=grpc.StatusCode.UNAVAILABLE,
            )

        return await self._repeat(once)

    async def list_contact_problems(
        self, campaign_id: str, *, page_size: int = 0, page_token: str = ""
    ) -> contact_pb2.ListContactProblemsResponse:
        """One page of the first 1,000 problems of the latest import."""
        request = contact_pb2.ListContactProblemsRequest(
            campaign_id=campaign_id, page_size=page_size, page_token=page_token
        )
        return await self._call(self._contacts.ListContactProblems, request)

    async def all_contact_problems(
        self, campaign_id: str
    ) -> AsyncIterator[contact_pb2.ContactProblem]:
        """The first 1,000 problems; `download_contact_problems` has all of them."""
        page_token = ""
        while True:
            page = await self.list_contact_problems(
                campaign_id, page_size=_PROBLEMS_PAGE_SIZE_MAX, page_token=page_token
            )
            for problem in page.problems:
                yield problem
            page_token = page.next_page_token
            if not page_token:
                return

    async def download_contact_problems(self, campaign_id: str) -> AsyncIterator[bytes]:
        """All problems of the latest import: pieces of one CSV file with a header row."""
        call = self._contacts.DownloadContactProblems(
            contact_pb2.DownloadContactProblemsRequest(campaign_id=campaign_id),
            timeout=self.timeouts.transfer_seconds,
            metadata=self._metadata,
        )
        try:
            async for response in call:
                yield response.chunk
        except grpc.aio.AioRpcError as error:
            raise call_error(error) from error
        finally:
            call.cancel()

    @cached_property
    def _contacts(self) -> contact_pb2_grpc.ContactServiceAsyncStub:
        return contact_pb2_grpc.ContactServiceStub(self._channel)


async def _frames(
    header: contact_pb2.UploadHeader,
    pieces: AsyncGenerator[bytes],
    size_bytes: int | None,
    on_progress: UploadProgress | None,
) -> AsyncGenerator[contact_pb2.UploadContactsRequest]:
    """The header, then the file in chunks of at most `CHUNK_BYTES_MAX`."""
    yield contact_pb2.UploadContactsRequest(header=header)
    sent_bytes = 0
    async with aclosing(pieces):
        async for piece in pieces:
            for start in range(0, len(piece), CHUNK_BYTES_MAX):
                chunk = piece[start : start + CHUNK_BYTES_MAX]
                yield contact_pb2.UploadContactsRequest(chunk=chunk)
                sent_bytes += len(chunk)
                if on_progress is not None:
                    on_progress(sent_bytes, size_bytes)


async def _write_all(
    call: grpc.aio.StreamUnaryCall[contact_pb2.UploadContactsRequest, contact_pb2.ContactUpload],
    frames: AsyncGenerator[contact_pb2.UploadContactsRequest],
) -> None:
    """Write every frame, or as many as the service wants: it may refuse before the last one.

    gRPC is not given the iterator: a refusal would leave it running inside gRPC's own task, and
    an error of the source (a file that can't be read) would become a mere cancellation.
    """
    async with aclosing(frames):
        async for frame in frames:
            try:
                await call.write(frame)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                return  # the call is over; awaiting it tells why
    await call.done_writing()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _client_closed() -> CallError:
    return CallError(
        "CANCELLED", "The client was closed during the upload.", code=grpc.StatusCode.CANCELLED
    )


def _upload_error(error: grpc.aio.AioRpcError) -> CallError:
    """The refusal; UNAVAILABLE where gRPC lost it.

    A write that meets the end of the call makes grpc.aio forget the status that was just
    received. An upload may be repeated, and the repeat is told.
    """
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _STATUS_LOST:
        return CallError(
            "UNAVAILABLE",
            "The service ended the upload early, and its reason was lost on the way.",
            code=grpc.StatusCode.UNAVAILABLE,
        )
    return call_error(error)


async def _pieces(source: Path | bytes | AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, Path):
        # Not in a thread: a cancellation while it opens would leave the file open.
        file = source.open("rb")
        try:
            while piece := await asyncio.to_thread(file.read, _READ_BYTES):
                yield piece
        finally:
            file.close()
    else:
        async for piece in source:
            yield piece

"""The calls of `outreach.v1.ContactService`: upload a file, import it, read what was wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import cached_property
from pathlib import Path

import grpc

from outreach.client.connection import Connection, new_request_id
from outreach.client.errors import CallError, call_error
from outreach.client.uploads import (
    Source,
    UploadProgress,
    chunks_of,
    framed,
    size_of,
    uploaded,
)
from outreach.v1 import contact_pb2, contact_pb2_grpc

_PROBLEMS_PAGE_SIZE_MAX = 1_000

ImportProgress = Callable[[contact_pb2.ImportProgress], None]


class ContactCalls(Connection):
    """Contacts come as a CSV file. Every call raises `CallError` (`contact.proto`)."""

    async def upload_contacts(
        self,
        campaign_id: str,
        source: Source,
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
        if isinstance(source, Path | bytes):
            size_bytes = await size_of(source)
        if isinstance(source, Path):
            file_name = file_name or source.name
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
            frames = framed(
                contact_pb2.UploadContactsRequest(header=header),
                chunks_of(source, size_bytes, on_progress),
                lambda chunk: contact_pb2.UploadContactsRequest(chunk=chunk),
            )
            return await uploaded(call, frames)

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

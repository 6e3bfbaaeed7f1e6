"""ContactService."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from typing import Any
from uuid import UUID

import grpc.aio
import structlog

from outreach.crash_points import reached
from outreach.rpc.call import Caller, current_caller
from outreach.v1 import contact_pb2, contact_pb2_grpc
from services.campaign.contacts.importer import ImportCounts
from services.campaign.delivery.changes import Wakeups
from services.campaign.rpc.contact_protos import (
    header_of,
    import_of,
    problem_to_proto,
    progress_to_proto,
    upload_to_proto,
)
from services.campaign.rpc.convert import campaign_to_proto
from services.campaign.rpc.fields import Fields, query_hash, request_key
from services.campaign.rpc.pages import PageTokens, fitting
from services.campaign.rpc.uploads import (
    UPLOADS_AT_ONCE_MAX,
    chunks_of,
    header_frame,
    limited_upload,
)
from services.campaign.store import Connection, Pool
from services.campaign.store.contacts import Upload
from services.campaign.store.requests import RequestKey
from services.campaign.usecases.contact_problems import list_problems, problems_csv
from services.campaign.usecases.import_contacts import (
    ImportCommand,
    ImportTerms,
    OnProgress,
    import_contacts,
    no_valid_rows,
    refresh_statistics,
)
from services.campaign.usecases.once import Once
from services.campaign.usecases.upload_contacts import require_consent, upload_contacts

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
#: Each takes a core for its worker process and a connection; more of them wait.
IMPORTS_AT_ONCE_MAX = 2
PROGRESS_INTERVAL_SECONDS = 0.1
_ORDINAL_BYTES = 4

_log = structlog.get_logger()

_Context = grpc.aio.ServicerContext[Any, Any]


class ContactServicer(contact_pb2_grpc.ContactServiceServicer):
    """Thin: reads the requests, calls the use cases, writes the answers. See contact.proto."""

    def __init__(
        self, pool: Pool, *, page_tokens: PageTokens, wakeups: Wakeups, terms: ImportTerms
    ) -> None:
        self._pool = pool
        self._once = Once(pool)
        self._page_tokens = page_tokens
        self._wakeups = wakeups
        self._terms = terms
        self._imports = asyncio.Semaphore(IMPORTS_AT_ONCE_MAX)
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE_MAX)

    async def UploadContacts(
        self, request_iterator: Any, context: _Context
    ) -> contact_pb2.ContactUpload:
        async with limited_upload():
            return upload_to_proto(await self._upload(aiter(request_iterator), context))

    async def _upload(
        self, frames: AsyncIterator[contact_pb2.UploadContactsRequest], context: _Context
    ) -> Upload:
        header = (await header_frame(frames)).header
        require_consent(confirmed=header.consent_confirmed)
        command = header_of(header)
        chunks = chunks_of(frames, context)
        async with self._uploads:
            return await upload_contacts(
                self._pool, current_caller(), command, chunks, self._terms.limits
            )

    # A coroutine that writes, as grpc.aio also serves it: so it is told at once when the caller
    # goes away (a generator is left where it stands), and the import ends.
    async def ImportContacts(  # type: ignore[override] # the stubs know generators only
        self, request: contact_pb2.ImportContactsRequest, context: _Context
    ) -> None:
        caller, fields = current_caller(), Fields()
        command = import_of(fields, request)
        key = request_key(fields, caller, "ImportContacts", request, request.request_id)
        fields.check()
        progress = _Progress()
        async with self._imports:
            result = await _told(
                context, progress, self._import(caller, command, key, progress.update)
            )
        reached("import-committed")
        if not result.HasField("campaign"):
            raise no_valid_rows()
        campaign = result.campaign
        await self._wakeups.campaign_changed(
            caller.organisation_id, command.campaign_id, campaign.revision
        )
        _log.info(
            "contacts_imported",
            campaign_id=campaign.id,
            rows=campaign.contacts.rows,
            imported=campaign.contacts.imported,
            invalid=campaign.contacts.invalid,
            duplicates=campaign.contacts.duplicates,
        )
        await refresh_statistics(self._pool, campaign.counts.total)
        await context.write(contact_pb2.ImportContactsResponse(result=result))

    async def _import(
        self,
        caller: Caller,
        command: ImportCommand,
        key: RequestKey | None,
        on_progress: OnProgress,
    ) -> contact_pb2.ImportResult:
        async def do(connection: Connection) -> contact_pb2.ImportResult:
            imported = await import_contacts(connection, caller, command, self._terms, on_progress)
            return contact_pb2.ImportResult(
                campaign=None
                if imported.campaign is None
                else campaign_to_proto(imported.campaign),
                problems=map(problem_to_proto, imported.problems),
            )

        return await self._once(key, contact_pb2.ImportResult, do)

    async def ListContactProblems(
        self, request: contact_pb2.ListContactProblemsRequest, context: _Context
    ) -> contact_pb2.ListContactProblemsResponse:
        caller, fields = current_caller(), Fields()
        campaign_id = fields.uuid("campaign_id", request.campaign_id)
        size = fields.page_size(request.page_size, default=PAGE_SIZE_DEFAULT, maximum=PAGE_SIZE_MAX)
        fields.check()
        query = query_hash(caller, "ListContactProblems", {"campaign_id": str(campaign_id)})
        position = self._page_tokens.read(request.page_token, query)
        after = 0 if position is None else int.from_bytes(position, "big")
        found = await list_problems(self._pool, caller, campaign_id, after=after, limit=size + 1)
        problems = [problem_to_proto(problem) for problem in found[:size]]
        shown = fitting(problems)
        token = ""
        if shown < len(found):
            last = found[shown - 1].ordinal.to_bytes(_ORDINAL_BYTES, "big")
            token = self._page_tokens.make(last, query)
        return contact_pb2.ListContactProblemsResponse(
            problems=problems[:shown], next_page_token=token
        )

    # A coroutine, as ImportContacts is.
    async def DownloadContactProblems(  # type: ignore[override] # the stubs know generators only
        self, request: contact_pb2.DownloadContactProblemsRequest, context: _Context
    ) -> None:
        fields = Fields()
        campaign_id: UUID = fields.uuid("campaign_id", request.campaign_id)
        fields.check()
        async with aclosing(problems_csv(self._pool, current_caller(), campaign_id)) as pieces:
            async for piece in pieces:
                await context.write(contact_pb2.DownloadContactProblemsResponse(chunk=piece))


class _Progress:
    """The latest figures of an import; older ones that nobody took are dropped, so that a slow
    reader holds up nothing.
    """

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._latest: contact_pb2.ImportProgress | None = None

    def update(self, counts: ImportCounts, bytes_total: int) -> None:
        """As `OnProgress`."""
        self._latest = progress_to_proto(counts, bytes_total)
        self._news.set()

    def end(self) -> None:
        """No more will come."""
        self._ended.set()
        self._news.set()

    async def write_to(self, context: _Context) -> None:
        """Until the end, at most every PROGRESS_INTERVAL_SECONDS."""
        while True:
            await self._news.wait()
            self._news.clear()
            latest, self._latest = self._latest, None
            if latest is not None:
                await context.write(contact_pb2.ImportContactsResponse(progress=latest))
            if self._ended.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_INTERVAL_SECONDS):
                    await self._ended.wait()


async def _told(
    context: _Context,
    progress: _Progress,
    importing: Coroutine[Any, Any, contact_pb2.ImportResult],
) -> contact_pb2.ImportResult:
    """Import, and tell how it goes meanwhile. When the caller goes away the import is given up."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(progress.write_to(context))
            # A refusal must not cut a write short: the refusal is the next thing to be written.
            outcomes = await asyncio.gather(importing, return_exceptions=True)
            progress.end()
    except BaseExceptionGroup as group:
        # What failed is the writing; the group says nothing more.
        raise group.exceptions[0] from None
    outcome = outcomes[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome

"""SuppressionService."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import grpc.aio
import structlog

from outreach.recipients import RECIPIENT_HASH_BYTES
from outreach.rpc.call import Caller, current_caller
from outreach.v1 import channel_pb2, suppression_pb2, suppression_pb2_grpc
from outreach.vocabulary import Channel
from services.campaign.contacts.dialect import HEAD_BYTES_MAX
from services.campaign.delivery.changes import Wakeups
from services.campaign.rpc.contact_protos import FILE_NAME_CHARACTERS_MAX
from services.campaign.rpc.convert import timestamp
from services.campaign.rpc.fields import Fields, query_hash, request_key
from services.campaign.rpc.pages import PageTokens, fitting
from services.campaign.rpc.uploads import chunks_of, header_frame, limited_upload
from services.campaign.store import Connection, Pool
from services.campaign.store.requests import RequestKey
from services.campaign.store.suppressions import (
    ListPosition,
    SuppressionRecord,
    list_suppressions,
)
from services.campaign.store.upload_spool import UploadSpool
from services.campaign.usecases.erase_person import erase_person
from services.campaign.usecases.import_contacts import ImportTerms
from services.campaign.usecases.import_suppressions import (
    SuppressionFile,
    import_suppressions,
    receive_suppressions,
)
from services.campaign.usecases.once import Once
from services.campaign.usecases.suppressions import (
    Person,
    create_suppression,
    delete_suppression,
    get_suppression,
    person_of,
)

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000
RECIPIENT_CHARACTERS_MAX: Final = 320
COLUMN_CHARACTERS_MAX: Final = 200
#: Each takes a core for its worker process and a connection; more of them wait.
IMPORTS_AT_ONCE_MAX: Final = 1
UPLOADS_AT_ONCE_MAX: Final = 16
#: Each goes through many campaigns; more of them wait.
ERASURES_AT_ONCE_MAX: Final = 2

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TIME_BYTES: Final = 8

_log = structlog.get_logger()

_Context = grpc.aio.ServicerContext[Any, Any]
_Frames = AsyncIterator[suppression_pb2.ImportSuppressionsRequest]
_OfPerson = TypeVar(
    "_OfPerson",
    suppression_pb2.CreateSuppressionRequest,
    suppression_pb2.DeleteSuppressionRequest,
    suppression_pb2.ErasePersonRequest,
)


class SuppressionServicer(suppression_pb2_grpc.SuppressionServiceServicer):
    """Thin: reads the requests, calls the use cases, writes the answers. See suppression.proto."""

    def __init__(
        self, pool: Pool, *, page_tokens: PageTokens, wakeups: Wakeups, terms: ImportTerms
    ) -> None:
        self._pool = pool
        self._once = Once(pool)
        self._page_tokens = page_tokens
        self._wakeups = wakeups
        self._terms = terms
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE_MAX)
        self._imports = asyncio.Semaphore(IMPORTS_AT_ONCE_MAX)
        self._erasures = asyncio.Semaphore(ERASURES_AT_ONCE_MAX)

    async def ListSuppressions(
        self, request: suppression_pb2.ListSuppressionsRequest, context: object
    ) -> suppression_pb2.ListSuppressionsResponse:
        caller, fields = current_caller(), Fields()
        channel = (
            fields.choice("channel", request.channel, Channel, None) if request.channel else None
        )
        size = fields.page_size(request.page_size, default=PAGE_SIZE_DEFAULT, maximum=PAGE_SIZE_MAX)
        fields.check()
        query = query_hash(caller, "ListSuppressions", {"channel": str(request.channel)})
        position = self._page_tokens.read(request.page_token, query)
        async with self._pool.acquire() as connection:
            found = await list_suppressions(
                connection,
                caller.organisation_id,
                channel,
                after=None if position is None else _position_of(position),
                limit=size + 1,
            )
        suppressions = [_suppression_to_proto(each) for each in found[:size]]
        shown = fitting(suppressions)
        token = ""
        if shown < len(found):
            token = self._page_tokens.make(_bytes_of(found[shown - 1]), query)
        return suppression_pb2.ListSuppressionsResponse(
            suppressions=suppressions[:shown], next_page_token=token
        )

    async def GetSuppression(
        self, request: suppression_pb2.GetSuppressionRequest, context: object
    ) -> suppression_pb2.Suppression:
        fields = Fields()
        person = self._person_of(fields, request.channel, request.recipient)
        fields.check()
        async with self._pool.acquire() as connection:
            return _suppression_to_proto(
                await get_suppression(connection, current_caller(), person)
            )

    async def CreateSuppression(
        self, request: suppression_pb2.CreateSuppressionRequest, context: object
    ) -> suppression_pb2.Suppression:
        caller, person, key = self._read("CreateSuppression", request)

        async def create(connection: Connection) -> suppression_pb2.Suppression:
            return _suppression_to_proto(await create_suppression(connection, caller, person))

        return await self._once(key, suppression_pb2.Suppression, create)

    async def DeleteSuppression(
        self, request: suppression_pb2.DeleteSuppressionRequest, context: object
    ) -> suppression_pb2.DeleteSuppressionResponse:
        caller, person, key = self._read("DeleteSuppression", request)

        async def delete(connection: Connection) -> suppression_pb2.DeleteSuppressionResponse:
            await delete_suppression(connection, caller, person)
            return suppression_pb2.DeleteSuppressionResponse()

        return await self._once(key, suppression_pb2.DeleteSuppressionResponse, delete)

    async def ImportSuppressions(
        self, request_iterator: Any, context: _Context
    ) -> suppression_pb2.ImportSuppressionsResponse:
        async with limited_upload():
            result = await self._import(aiter(request_iterator), context)
        _log.info(
            "suppressions_imported",
            rows=result.rows,
            added=result.added,
            known=result.known,
            invalid=result.invalid,
        )
        return result

    async def _import(
        self, frames: _Frames, context: _Context
    ) -> suppression_pb2.ImportSuppressionsResponse:
        caller, fields = current_caller(), Fields()
        header = (await header_frame(frames)).header
        file = _file_of(fields, header)
        fields.optional_uuid("header.request_id", header.request_id)
        fields.check()
        async with self._uploads:
            with UploadSpool(HEAD_BYTES_MAX) as spool:
                digest = hashlib.sha256()
                chunks = _digested(chunks_of(frames, context), digest)
                async with aclosing(chunks):
                    layout = await receive_suppressions(spool, chunks, file, self._terms.limits)
                key = request_key(Fields(), caller, "ImportSuppressions", header, header.request_id)
                if key is not None:
                    # The same request is one with the same header and the same file.
                    whole = hashlib.sha256(key.hash + digest.digest())
                    key = replace(key, hash=whole.digest())

                async def add(
                    connection: Connection,
                ) -> suppression_pb2.ImportSuppressionsResponse:
                    added = await import_suppressions(
                        connection, caller, file, layout, spool, self._terms
                    )
                    return suppression_pb2.ImportSuppressionsResponse(
                        rows=added.rows,
                        added=added.added,
                        known=added.known,
                        invalid=added.invalid,
                    )

                async with self._imports:
                    return await self._once(key, suppression_pb2.ImportSuppressionsResponse, add)

    async def ErasePerson(
        self, request: suppression_pb2.ErasePersonRequest, context: object
    ) -> suppression_pb2.ErasePersonResponse:
        caller, person, key = self._read("ErasePerson", request)
        kept = await self._once.kept(key, suppression_pb2.ErasePersonResponse)
        if kept is not None:
            return kept
        async with self._erasures:
            erased = await erase_person(self._pool, self._wakeups, caller, person)
        _log.info(
            "person_erased",
            campaigns=erased.campaigns,
            contacts=erased.contacts,
            opted_out=erased.opted_out,
            under_way=erased.under_way,
        )

        async def answer(_: Connection) -> suppression_pb2.ErasePersonResponse:
            return suppression_pb2.ErasePersonResponse(
                campaigns=erased.campaigns,
                contacts=erased.contacts,
                opted_out=erased.opted_out,
                under_way=erased.under_way,
            )

        return await self._once(key, suppression_pb2.ErasePersonResponse, answer)

    def _read(self, method: str, request: _OfPerson) -> tuple[Caller, Person, RequestKey | None]:
        """Who calls, about whom, and the request's entry in the log, made of the keyed hash: that of
        the request itself could be found out by trying all numbers.
        """
        caller, fields = current_caller(), Fields()
        person = self._person_of(fields, request.channel, request.recipient)
        told = type(request)()
        told.CopyFrom(request)
        told.recipient = person.hash.hex()
        key = request_key(fields, caller, method, told, request.request_id)
        fields.check()
        return caller, person, key

    def _person_of(self, fields: Fields, channel: int, recipient: str) -> Person:
        chosen = fields.choice("channel", channel, Channel, None)
        nobody = Person(chosen, "", b"")
        if not recipient:
            fields.refuse("recipient", "FIELD_REQUIRED", "Give a number or an address.")
            return nobody
        if len(recipient) > RECIPIENT_CHARACTERS_MAX or "\0" in recipient:
            fields.text("recipient", recipient, RECIPIENT_CHARACTERS_MAX)
            return nobody
        person, fault = person_of(self._terms.recipient_hash_key, chosen, recipient)
        if person is None:
            if not any(violation.field == "channel" for violation in fields.violations):
                fields.refuse("recipient", "FIELD_INVALID", fault)
            return nobody
        return person


async def _digested(
    chunks: AsyncGenerator[bytes], digest: "hashlib._Hash"
) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        async for chunk in chunks:
            digest.update(chunk)
            yield chunk


def _file_of(fields: Fields, header: suppression_pb2.SuppressionFileHeader) -> SuppressionFile:
    return SuppressionFile(
        channel=fields.choice("header.channel", header.channel, Channel, None),
        file_name=fields.text("header.file_name", header.file_name, FILE_NAME_CHARACTERS_MAX),
        column=fields.text("header.column", header.column, COLUMN_CHARACTERS_MAX),
        has_header=header.has_header if header.HasField("has_header") else None,
        size_bytes=header.size_bytes,
    )


def _suppression_to_proto(found: SuppressionRecord) -> suppression_pb2.Suppression:
    return suppression_pb2.Suppression(
        channel=channel_pb2.Channel.ValueType(found.channel),
        recipient=found.recipient or "",
        source=suppression_pb2.SuppressionSource.ValueType(found.source),
        event_time=timestamp(found.event_time),
    )


def _bytes_of(found: SuppressionRecord) -> bytes:
    microseconds = (found.event_time - _EPOCH) // _MICROSECOND
    return (
        microseconds.to_bytes(_TIME_BYTES, "big", signed=True)
        + bytes([found.channel])
        + found.recipient_hash
    )


def _position_of(position: bytes) -> ListPosition:
    microseconds = int.from_bytes(position[:_TIME_BYTES], "big", signed=True)
    channel, recipient_hash = position[_TIME_BYTES], position[_TIME_BYTES + 1 :]
    assert len(recipient_hash) == RECIPIENT_HASH_BYTES  # we signed it
    return ListPosition(_EPOCH + microseconds * _MICROSECOND, Channel(channel), recipient_hash)

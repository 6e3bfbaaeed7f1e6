"""The campaign service's public calls on a port of their own, for tests of contacts: real PostgreSQL, real gRPC."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from outreach.client import OutreachClient
from outreach.permissions import CAMPAIGN_ROLES
from outreach.postgres.pool import create_pool
from outreach.rpc.call import Caller
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.interceptors.authentication import AuthenticationInterceptor
from outreach.rpc.server import OPEN_SERVICES, RpcServer, Service
from outreach.tokens import TokenSigner
from outreach.v1 import (
    campaign_pb2,
    campaign_pb2_grpc,
    contact_pb2,
    contact_pb2_grpc,
    message_pb2_grpc,
)
from outreach.vocabulary import Channel
from services.campaign.contacts.errors import ContactLimits
from services.campaign.rpc.campaigns import CampaignServicer
from services.campaign.rpc.contacts import ContactServicer
from services.campaign.rpc.messages import MessageServicer
from services.campaign.rpc.pages import PageTokens
from services.campaign.store.organisations import caller_by_key
from services.campaign.usecases.compile_template import TemplateCompiler
from services.campaign.usecases.import_contacts import ImportTerms
from tests.campaign_data import RECIPIENT_KEY, Wakes

#: What an import may change; `request_log` without its times.
_TABLES = (
    "campaign",
    "campaign_content",
    "change_log",
    "contact",
    "contact_problem",
    "message",
    "upload",
    "upload_chunk",
)
ROLE_CAMPAIGNER = 3


@dataclass
class ContactRig:
    """The service, and a client of one organisation."""

    dsn: str
    pool: asyncpg.Pool[asyncpg.Record]
    address: str
    api_key: str
    client: OutreachClient
    contacts: contact_pb2_grpc.ContactServiceAsyncStub
    wakes: Wakes = field(default_factory=Wakes)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer(self.api_key)

    async def campaign(self, body: str = "Hello {{name}}") -> str:
        """A new SMS campaign; its id."""
        created = await self.client.create_campaign(
            name="Spring", sms=campaign_pb2.SmsContent(body=body)
        )
        return created.id

    async def uploaded(self, campaign_id: str, data: bytes, **more: Any) -> str:
        """Upload a file; the upload's id."""
        upload = await self.client.upload_contacts(
            campaign_id, data, consent_confirmed=True, **more
        )
        return upload.id

    async def imported(self, data: bytes, **more: Any) -> contact_pb2.ImportResult:
        """A new campaign with the contacts of a file."""
        campaign_id = await self.campaign()
        upload_id = await self.uploaded(campaign_id, data)
        return await self.client.import_contacts(campaign_id, upload_id, **more)

    async def send_frames(
        self, frames: Iterable[contact_pb2.UploadContactsRequest]
    ) -> contact_pb2.ContactUpload:
        """An upload frame by frame; AioRpcError as gRPC gives it."""

        async def sent() -> AsyncIterator[contact_pb2.UploadContactsRequest]:
            for frame in frames:
                yield frame

        return await self.contacts.UploadContacts(sent(), metadata=self.metadata)

    async def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is stored about campaigns."""
        return {
            table: sorted(
                (tuple(row.values()) for row in await self.pool.fetch(f"SELECT * FROM {table}")),
                key=repr,
            )
            for table in _TABLES
        }


async def add_organisation(pool: Any) -> str:
    """An organisation with SMS set up; its API key."""
    organisation_id, api_key = uuid4(), uuid4().hex + uuid4().hex
    await pool.execute("INSERT INTO organisation (id, name) VALUES ($1, 'Tests')", organisation_id)
    await pool.execute(
        "INSERT INTO api_key (key_hash, organisation_id, role, label) VALUES ($1, $2, $3, 'ann')",
        hashlib.sha256(api_key.encode()).digest(),
        organisation_id,
        ROLE_CAMPAIGNER,
    )
    await pool.execute(
        "INSERT INTO provider_account (organisation_id, channel, settings, secret)"
        " VALUES ($1, 1, '{}', '')",
        organisation_id,
    )
    return api_key


@asynccontextmanager
async def contact_rig(dsn: str, limits: ContactLimits | None = None) -> AsyncIterator[ContactRig]:
    """The service on a free port, until the block is left."""
    pool = await create_pool(dsn, application_name="contact-rig", connections_max=8)
    try:
        api_key = await add_organisation(pool)
        wakes = Wakes()
        server = _server(pool, wakes, limits or ContactLimits())
        address = f"127.0.0.1:{await server.start()}"
        async with OutreachClient(address, api_key) as client, create_channel(address) as channel:
            stub = contact_pb2_grpc.ContactServiceStub(channel)
            yield ContactRig(dsn, pool, address, api_key, client, stub, wakes)
        await server.drain(end_streams=lambda: None, grace_seconds=0)
    finally:
        await pool.close()


async def _no_sender(channel: Channel, campaign_id: UUID, run: int) -> None:
    """Nobody sends here."""


def _server(pool: Any, wakes: Wakes, limits: ContactLimits) -> RpcServer:
    tokens = PageTokens(TokenSigner([b"a key for tests"]))
    campaigns = CampaignServicer(
        pool,
        page_tokens=tokens,
        wakeups=wakes,
        compiler=TemplateCompiler(),
        on_run=lambda: None,
        on_stop=_no_sender,
        on_delete=lambda: None,
    )
    contacts = ContactServicer(
        pool, page_tokens=tokens, wakeups=wakes, terms=ImportTerms(RECIPIENT_KEY, limits)
    )
    messages = MessageServicer(pool, page_tokens=tokens, recipient_key=RECIPIENT_KEY)

    async def lookup(key_hash: bytes) -> Caller | None:
        async with pool.acquire() as connection:
            return await caller_by_key(connection, key_hash)

    return RpcServer(
        host="127.0.0.1",
        port=0,
        services=[
            Service(
                "outreach.v1.CampaignService",
                lambda s: campaign_pb2_grpc.add_CampaignServiceServicer_to_server(campaigns, s),
            ),
            Service(
                "outreach.v1.ContactService",
                lambda s: contact_pb2_grpc.add_ContactServiceServicer_to_server(contacts, s),
            ),
            Service(
                "outreach.v1.MessageService",
                lambda s: message_pb2_grpc.add_MessageServiceServicer_to_server(messages, s),
            ),
        ],
        authentication=AuthenticationInterceptor(
            lookup, roles_allowed=lambda _: CAMPAIGN_ROLES, open_services=OPEN_SERVICES
        ),
    )


def csv_of(*rows: str, header: str = "phone,name") -> bytes:
    """Lines as a file."""
    return "\n".join([header, *rows, ""]).encode()


def number(n: int) -> str:
    """A possible phone number."""
    return f"+4477009{n:05d}"


def header_frame(campaign_id: str, **more: Any) -> contact_pb2.UploadContactsRequest:
    """The first frame of an upload with consent, unless `more` says otherwise."""
    fields: dict[str, Any] = {"consent_confirmed": True, "file_name": "contacts.csv", **more}
    header = contact_pb2.UploadHeader(campaign_id=campaign_id, **fields)
    return contact_pb2.UploadContactsRequest(header=header)


def chunk_frame(data: bytes) -> contact_pb2.UploadContactsRequest:
    """A frame with bytes of the file."""
    return contact_pb2.UploadContactsRequest(chunk=data)


def mapping(*columns: tuple[str, int, str]) -> contact_pb2.ContactMapping:
    """(name, role, variable name) of each column."""
    return contact_pb2.ContactMapping(
        columns=[
            campaign_pb2.ContactColumn(
                name=name, role=campaign_pb2.ColumnRole.ValueType(role), variable_name=variable
            )
            for name, role, variable in columns
        ]
    )

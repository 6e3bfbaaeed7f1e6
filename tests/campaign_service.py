"""The campaign service's two ports inside a test's own loop, on a real database, with API keys."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import grpc.aio
import orjson
import pytest

from outreach.errors import OutreachError
from outreach.jetstream.connection import NatsConnection, nats_connection
from outreach.postgres.pool import create_pool
from outreach.recipients import recipient_hash
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.errors import from_status
from outreach.v1 import (
    campaign_pb2,
    campaign_pb2_grpc,
    channel_pb2,
    message_pb2_grpc,
    suppression_pb2_grpc,
)
from outreach.vocabulary import Channel, Role
from services.campaign.app import Parts, compose, end_streams, servers
from services.campaign.settings import Settings
from services.campaign.usecases.update_campaign import settle_template

INTERNAL_TOKEN = "internal-token-of-the-tests"
#: A port that nothing listens on: these tests need no NATS, and the service has to cope.
NO_NATS_URL = "nats://127.0.0.1:9"


@dataclass
class Tenant:
    """One organisation's view of the service."""

    organisation_id: UUID
    key: str
    channel: grpc.aio.Channel
    campaigns: Any = field(init=False)
    messages: Any = field(init=False)
    suppressions: Any = field(init=False)

    def __post_init__(self) -> None:
        self.campaigns = campaign_pb2_grpc.CampaignServiceStub(self.channel)
        self.messages = message_pb2_grpc.MessageServiceStub(self.channel)
        self.suppressions = suppression_pb2_grpc.SuppressionServiceStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer(self.key)

    async def call(self, method: Any, request: Any) -> Any:
        """The answer, or the OutreachError that the status carries."""
        try:
            return await method(request, metadata=self.metadata, timeout=120)
        except grpc.aio.AioRpcError as error:
            raise from_status(error) from error

    async def create(self, body: str = "Hello {{name}}", **fields: Any) -> campaign_pb2.Campaign:
        """A new SMS campaign."""
        campaign = campaign_pb2.Campaign(
            **{
                "name": "Autumn",
                "channel": channel_pb2.CHANNEL_SMS,
                "sms": campaign_pb2.SmsContent(body=body),
                **fields,
            }
        )
        request = campaign_pb2.CreateCampaignRequest(campaign=campaign)
        created: campaign_pb2.Campaign = await self.call(self.campaigns.CreateCampaign, request)
        return created

    async def get(self, campaign_id: str) -> campaign_pb2.Campaign:
        """The campaign as it is."""
        request = campaign_pb2.GetCampaignRequest(id=campaign_id)
        campaign: campaign_pb2.Campaign = await self.call(self.campaigns.GetCampaign, request)
        return campaign

    async def run(self, campaign_id: str, **fields: Any) -> campaign_pb2.Campaign:
        """Run it with the current disclaimer."""
        version = await self.disclaimer_version()
        request = campaign_pb2.RunCampaignRequest(
            **{"id": campaign_id, "accepted_disclaimer_version": version, **fields}
        )
        campaign: campaign_pb2.Campaign = await self.call(self.campaigns.RunCampaign, request)
        return campaign

    async def delete(self, campaign_id: str, **fields: Any) -> None:
        """Delete it."""
        request = campaign_pb2.DeleteCampaignRequest(id=campaign_id, **fields)
        await self.call(self.campaigns.DeleteCampaign, request)

    async def disclaimer_version(self) -> str:
        disclaimer = await self.call(
            self.campaigns.GetDisclaimer, campaign_pb2.GetDisclaimerRequest()
        )
        version: str = disclaimer.version
        return version


@dataclass
class Service:
    """The running service, and its database."""

    pool: Any
    parts: Parts
    public_address: str
    internal_address: str
    channel: grpc.aio.Channel

    async def tenant(
        self,
        *,
        role: Role = Role.CAMPAIGNER,
        channels: Sequence[Channel] = (Channel.SMS,),
        organisation_id: UUID | None = None,
        **terms: Any,
    ) -> Tenant:
        """A new organisation (or another key of one) with these channels configured."""
        if organisation_id is None:
            organisation_id = uuid4()
            await self.pool.execute(
                "INSERT INTO organisation (id, name) VALUES ($1, 'Tests')", organisation_id
            )
            for channel in channels:
                await self.configure(organisation_id, channel, **terms)
        key = f"key-{uuid4()}-{uuid4()}"
        await self.pool.execute(
            "INSERT INTO api_key (key_hash, organisation_id, role, label) VALUES ($1, $2, $3, $4)",
            hashlib.sha256(key.encode()).digest(),
            organisation_id,
            role,
            f"key of {role.name}",
        )
        return Tenant(organisation_id, key, self.channel)

    async def configure(self, organisation_id: UUID, channel: Channel, **terms: Any) -> None:
        """A provider account."""
        await self.pool.execute(
            """
            INSERT INTO provider_account (organisation_id, channel, settings, secret,
                segments_per_second_max, price_per_segment_micros, currency_code)
            VALUES ($1, $2, '{}', '', $3, $4, $5)
            """,
            organisation_id,
            channel,
            terms.get("segments_per_second_max"),
            terms.get("price_per_segment_micros"),
            terms.get("currency_code"),
        )

    @property
    def recipient_key(self) -> bytes:
        return self.parts.settings.secrets().recipient_key

    async def put_contacts(
        self,
        tenant: Tenant,
        campaign_id: str,
        variables: Sequence[Sequence[str | None]],
        names: Sequence[str] = ("name",),
    ) -> None:
        """Contacts +15005550001 (or contact1@example.com) and up with these variables, as an import
        stores them.
        """
        key = UUID(campaign_id)
        channel = Channel(
            await self.pool.fetchval("SELECT channel FROM campaign WHERE id = $1", key)
        )
        columns = [{"name": "phone", "role": 1, "variable_name": ""}] + [
            {"name": name, "role": 2, "variable_name": name} for name in names
        ]
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.executemany(
                "INSERT INTO contact VALUES ($1, $2, $3, $4, $5)",
                [
                    (
                        key,
                        number,
                        recipient(number, channel),
                        recipient_hash(self.recipient_key, channel, recipient(number, channel)),
                        list(values),
                    )
                    for number, values in enumerate(variables, 1)
                ],
            )
            await connection.execute(
                "INSERT INTO message (campaign_id, number, status) "
                "SELECT $1, generate_series(1, $2), 2",
                key,
                len(variables),
            )
            await connection.execute(
                "UPDATE campaign SET waiting = $2, total = $2, rows_read = $2, import_time = now() "
                "WHERE id = $1",
                key,
                len(variables),
            )
            await connection.execute(
                "UPDATE campaign_content SET columns = $2::text::jsonb WHERE campaign_id = $1",
                key,
                orjson.dumps(columns).decode(),
            )
            await settle_template(connection, tenant.organisation_id, key)

    async def ready(
        self, tenant: Tenant, contacts: int = 3, body: str = "Hello {{name}}"
    ) -> campaign_pb2.Campaign:
        """A campaign that may be run."""
        campaign = await tenant.create(body)
        await self.put_contacts(tenant, campaign.id, [[f"Name {n}"] for n in range(contacts)])
        return await tenant.get(campaign.id)

    async def dump(self) -> dict[str, list[Any]]:
        """Everything that a refused call must leave alone."""
        tables = (
            "campaign",
            "campaign_content",
            "message",
            "contact",
            "change_log",
            "request_log",
            "disclaimer_acceptance",
        )
        return {
            table: [
                tuple(row) for row in await self.pool.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
            ]
            for table in tables
        }


def recipient(number: int, channel: Channel = Channel.SMS) -> str:
    """The recipient of a message number."""
    return f"contact{number}@example.com" if channel is Channel.EMAIL else f"+1500555{number:04d}"


def settings(database_dsn: str, **changes: Any) -> Settings:
    """Settings of a service on free ports."""
    return Settings.model_validate(
        {
            "postgres_dsn": database_dsn,
            "nats_url": NO_NATS_URL,
            "secret_key": "a secret key of the tests, 32 characters",
            "internal_token": INTERNAL_TOKEN,
            "campaign_grpc_port": 0,
            "campaign_internal_port": 0,
            **changes,
        }
    )


@asynccontextmanager
async def campaign_service(
    database_dsn: str, nats_url: str = NO_NATS_URL, **changes: Any
) -> AsyncIterator[Service]:
    """Both ports, listening; no background task runs. `changes`: other settings than the default."""
    configured = settings(database_dsn, **changes)
    pool = await create_pool(
        database_dsn, application_name="tests", connect_seconds_max=60, connections_max=20
    )
    try:
        async with (
            nats_connection(nats_url, name="tests") as nats,
            _listening(configured, pool, nats) as service,
        ):
            yield service
    finally:
        await pool.close()


@asynccontextmanager
async def _listening(
    configured: Settings, pool: Any, nats: NatsConnection
) -> AsyncIterator[Service]:
    parts = compose(configured, pool, nats)
    public, internal = servers(parts)
    addresses = [f"127.0.0.1:{await server.start()}" for server in (public, internal)]
    channel = create_channel(addresses[0])
    try:
        yield Service(pool, parts, addresses[0], addresses[1], channel)
    finally:
        await channel.close()
        for server in (public, internal):
            await server.drain(end_streams=lambda: end_streams(parts), grace_seconds=1)


@asynccontextmanager
async def refused(reason: str, *fields: tuple[str, str]) -> AsyncIterator[Any]:
    """The block is refused with this reason and exactly these (field, reason) violations."""
    caught: dict[str, OutreachError] = {}
    with pytest.raises(OutreachError) as info:
        yield caught
    error = info.value
    caught["error"] = error
    assert error.reason == reason, error
    assert [(v.field, v.reason) for v in error.violations] == list(fields)
    assert all(violation.text for violation in error.violations)

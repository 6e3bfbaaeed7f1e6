"""What senders fetch once: a campaign's content, and how an organisation reaches its provider."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2
from outreach.secrets import Secrets
from outreach.v1 import campaign_pb2, channel_pb2
from outreach.vocabulary import Channel
from services.campaign.delivery.attachments import attachment_pieces, content_attachments
from services.campaign.delivery.changes import QUERIES


class Contents:
    """Reads contents and accounts; nothing is cached here, the senders cache by content hash."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", secrets: Secrets) -> None:
        self._pool = pool
        self._secrets = secrets

    async def campaign_content(self, campaign_id: UUID) -> delivery_pb2.CampaignContent:
        """CAMPAIGN_NOT_FOUND when it was deleted meanwhile."""
        row = await self._pool.fetchrow(QUERIES["get_content"], campaign_id)
        if row is None:
            raise OutreachError("CAMPAIGN_NOT_FOUND", "There is no such campaign.")
        channel = Channel(row["channel"])
        content = delivery_pb2.CampaignContent(
            campaign_id=str(campaign_id),
            organisation_id=str(row["organisation_id"]),
            content_hash=row["content_hash"],
            channel=channel_pb2.Channel.ValueType(channel),
            variable_names=[
                column["variable_name"]
                for column in _json(row["columns"])
                if column["role"] == campaign_pb2.COLUMN_ROLE_CUSTOM_VARIABLE
            ],
            missing_variable_policy=campaign_pb2.MissingVariablePolicy.ValueType(
                row["missing_variable_policy"]
            ),
            is_test=row["is_test"],
        )
        if channel is Channel.EMAIL:
            content.attachments.extend(await content_attachments(self._pool, campaign_id))
        part = content.sms if channel is Channel.SMS else content.email
        json_format.ParseDict(_json(row["content"]), part, ignore_unknown_fields=True)
        content.compiled_email = row["compiled"] or b""
        return content

    def attachment_pieces(self, campaign_id: UUID, attachment_id: UUID) -> AsyncGenerator[bytes]:
        """One attachment, in pieces of at most 1 MiB. ATTACHMENT_NOT_FOUND."""
        return attachment_pieces(self._pool, campaign_id, attachment_id)

    async def provider_account(
        self, organisation_id: UUID, channel: int
    ) -> delivery_pb2.ProviderAccount:
        """CHANNEL_NOT_CONFIGURED when the organisation has no account for the channel."""
        row = await self._pool.fetchrow(QUERIES["get_provider_account"], organisation_id, channel)
        if row is None:
            raise _not_configured()
        settings = _json(row["settings"])
        secret = self._secrets.decrypt(row["secret"]).decode()
        account = delivery_pb2.ProviderAccount(organisation_id=str(organisation_id))
        if channel == Channel.SMS:
            account.twilio.CopyFrom(_twilio(settings, secret))
        else:
            account.sendgrid.api_key = secret
            account.sendgrid.webhook_public_key = settings.get("webhook_public_key", "")
            account.sendgrid.push_suppressions = settings.get("push_suppressions", False)
        return account

    async def provider_accounts(
        self, channel: Channel
    ) -> delivery_pb2.ListProviderAccountsResponse:
        """The organisations that have an account of the channel."""
        rows = await self._pool.fetch(QUERIES["list_provider_accounts"], channel)
        return delivery_pb2.ListProviderAccountsResponse(
            organisation_ids=[str(row["organisation_id"]) for row in rows]
        )

    async def record_check(
        self,
        organisation_id: UUID,
        channel: Channel,
        addresses: list[str],
        domains: list[str],
        fault: str,
        *,
        senders_unknown: bool,
    ) -> None:
        """What a sender found out about an account just now; CHANNEL_NOT_CONFIGURED when there is none."""
        known = await self._pool.fetchval(
            QUERIES["record_account_check"],
            organisation_id,
            channel,
            addresses,
            domains,
            fault,
            senders_unknown,
        )
        if not known:
            raise _not_configured()

    async def recipient(self, campaign_id: UUID, number: int) -> str:
        """Of one message; MESSAGE_NOT_FOUND, also when its campaign is gone."""
        recipient: str | None = await self._pool.fetchval(
            QUERIES["get_recipient"], campaign_id, number
        )
        if recipient is None:
            raise OutreachError("MESSAGE_NOT_FOUND", "There is no such message.")
        return recipient


def _not_configured() -> OutreachError:
    return OutreachError(
        "CHANNEL_NOT_CONFIGURED", "The organisation has no provider account for the channel."
    )


def _twilio(settings: Any, auth_token: str) -> delivery_pb2.TwilioAccount:
    sender = campaign_pb2.SmsSender()
    if settings.get("messaging_service_sid"):
        sender.messaging_service_sid = settings["messaging_service_sid"]
    elif settings.get("from"):
        setattr(sender, "from", settings["from"])
    account = delivery_pb2.TwilioAccount(
        account_sid=settings["account_sid"], auth_token=auth_token, sender=sender
    )
    if settings.get("validity_period_seconds"):
        account.validity_period.CopyFrom(Duration(seconds=settings["validity_period_seconds"]))
    return account


def _json(value: object) -> Any:
    """A jsonb value, whether the connection decodes it or not."""
    return orjson.loads(value) if isinstance(value, str | bytes) else value

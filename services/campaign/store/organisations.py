"""Tenants, their API keys, and how they reach their providers."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import orjson

from outreach.postgres.queries import load_queries
from outreach.rpc.call import Caller
from outreach.secrets import Secrets, SecretUnreadableError
from outreach.vocabulary import Channel, Role
from services.campaign.domain.senders import VerifiedSenders
from services.campaign.store import Connection

QUERIES = load_queries("services.campaign.store", "organisations.sql")


@dataclass(frozen=True, slots=True)
class ChannelTerms:
    """What sending costs and how fast it may go; None: not configured. An email is one segment.

    `senders` are those the provider lets the account send as; None: it has not been asked.
    `fault` is what keeps the account from sending, for people; empty: nothing is known to.
    """

    segments_per_second_max: float | None
    price_per_segment_micros: int | None
    currency_code: str | None
    senders: VerifiedSenders | None = None
    fault: str = ""


async def put_account(
    connection: Connection,
    organisation_id: UUID,
    channel: Channel,
    settings: Mapping[str, object],
    secret: str,
    terms: ChannelTerms,
    secrets: Secrets,
) -> None:
    """Store how an organisation reaches a provider; `settings` are not secret, `secret` is encrypted.

    What was found out about the account is kept, unless it has another secret from now on.
    """
    stored = await connection.fetchval(QUERIES["account_secret"], organisation_id, channel)
    await connection.execute(
        QUERIES["put_account"],
        organisation_id,
        channel,
        orjson.dumps(settings).decode(),
        secrets.encrypt(secret.encode()),
        terms.segments_per_second_max,
        terms.price_per_segment_micros,
        terms.currency_code,
        stored is not None and not _is_the_same(secrets, stored, secret),
    )


def _is_the_same(secrets: Secrets, stored: bytes, secret: str) -> bool:
    try:
        return secrets.decrypt(stored) == secret.encode()
    except SecretUnreadableError:
        return False


async def caller_by_key(connection: Connection, key_hash: bytes) -> Caller | None:
    """Who holds the API key with this SHA-256; None: nobody."""
    row = await connection.fetchrow(QUERIES["caller_by_key"], key_hash)
    if row is None:
        return None
    return Caller(
        organisation_id=row["organisation_id"], role=Role(row["role"]), key_label=row["label"]
    )


async def channel_terms(
    connection: Connection, organisation_id: UUID, channel: Channel
) -> ChannelTerms | None:
    """None: the channel is not configured."""
    row = await connection.fetchrow(QUERIES["get_terms"], organisation_id, channel)
    if row is None:
        return None
    checked = row["check_time"] is not None
    return ChannelTerms(
        segments_per_second_max=row["segments_per_second_max"],
        price_per_segment_micros=row["price_per_segment_micros"],
        currency_code=row["currency_code"],
        senders=VerifiedSenders.of(row["sender_addresses"], row["sender_domains"])
        if checked
        else None,
        fault=row["check_fault"],
    )

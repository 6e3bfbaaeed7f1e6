"""At start: makes sure that the organisation named by the settings exists, with its key and account.

A stand-in for calls that manage organisations and credentials. Safe to repeat, from any replica.
"""

import hashlib
from uuid import UUID

import structlog

from outreach.organisations import organisation_id
from outreach.secrets import Secrets
from outreach.vocabulary import Channel, Role
from services.campaign.settings import Settings
from services.campaign.store import Connection, Pool
from services.campaign.store.organisations import QUERIES, ChannelTerms, put_account

#: The label of the key that settings give.
KEY_LABEL = "bootstrap"

_log = structlog.get_logger(__name__)


async def bootstrap(pool: Pool, settings: Settings, secrets: Secrets) -> None:
    """Store what the settings name; nothing when they name no organisation.

    A key that the settings named earlier is withdrawn.
    """
    name, key = settings.bootstrap_organisation_name, settings.bootstrap_api_key
    if name is None or key is None:
        return
    organisation = organisation_id(name)
    key_hash = hashlib.sha256(key.get_secret_value().encode()).digest()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(QUERIES["insert_organisation"], organisation, name)
        await connection.execute(
            QUERIES["insert_key"], key_hash, organisation, Role.ORG_ADMIN, KEY_LABEL
        )
        await connection.execute(QUERIES["withdraw_other_keys"], organisation, KEY_LABEL, key_hash)
        await _put_twilio(connection, organisation, settings, secrets)
        await _put_sendgrid(connection, organisation, settings, secrets)
    _log.info("bootstrapped", organisation_id=str(organisation))


async def _put_twilio(
    connection: Connection, organisation: UUID, settings: Settings, secrets: Secrets
) -> None:
    if settings.bootstrap_twilio_auth_token is None:
        return
    whole = {
        "account_sid": settings.bootstrap_twilio_account_sid,
        "messaging_service_sid": settings.bootstrap_twilio_messaging_service_sid,
        "from": settings.bootstrap_twilio_from,
    }
    await put_account(
        connection,
        organisation,
        Channel.SMS,
        {key: value for key, value in whole.items() if value},
        settings.bootstrap_twilio_auth_token.get_secret_value(),
        ChannelTerms(
            settings.bootstrap_segments_per_second_max,
            settings.bootstrap_price_per_segment_micros,
            settings.bootstrap_currency_code,
        ),
        secrets,
    )


async def _put_sendgrid(
    connection: Connection, organisation: UUID, settings: Settings, secrets: Secrets
) -> None:
    if settings.bootstrap_sendgrid_api_key is None:
        return
    whole = {
        "webhook_public_key": settings.bootstrap_sendgrid_webhook_public_key,
        "push_suppressions": settings.bootstrap_sendgrid_push_suppressions,
    }
    await put_account(
        connection,
        organisation,
        Channel.EMAIL,
        {key: value for key, value in whole.items() if value},
        settings.bootstrap_sendgrid_api_key.get_secret_value(),
        ChannelTerms(settings.bootstrap_emails_per_second_max, None, None),
        secrets,
    )

"""The email sender: the shared sender with SendGrid as its provider."""

import asyncio
from typing import Final

from outreach.jetstream.publisher import Publisher
from outreach.sending.attempt_token import TokenKey
from outreach.sending.opt_outs import committing
from outreach.sending.sender import ChannelParts, SharedParts, Wiring, run_sender
from outreach.sending.transport import HttpTransport
from services.sender_email.account_checks import AccountChecks
from services.sender_email.adapter import SendGridProvider
from services.sender_email.events import interpret
from services.sender_email.sendgrid_api import SendGridApi
from services.sender_email.settings import SenderEmailSettings
from services.sender_email.suppressions import SuppressionPusher, SuppressionQueue
from services.sender_email.webhook_keys import WebhookKeys
from services.sender_email.webhooks import Webhooks

NAME = "sender_email"
#: A 400 may name each of 1,000 recipients.
ERRORS_BYTES_MAX: Final = 1024 * 1024


def _parts(shared: SharedParts, api: SendGridApi, token_key: TokenKey) -> ChannelParts:
    """What comes in, and what follows from it."""
    webhooks = Webhooks(
        commit=committing(shared.stream, shared.reporter),
        inbox=shared.inbox,
        suppressions=SuppressionQueue(Publisher(shared.nats)),
        keys=WebhookKeys(shared.accounts, api),
        token_key=token_key,
        faults=shared.faults,
    )
    pusher = SuppressionPusher(
        nats=shared.nats,
        channel=shared.channel,
        metadata=shared.metadata,
        accounts=shared.accounts,
        api=api,
    )
    checks = AccountChecks(
        channel=shared.channel,
        metadata=shared.metadata,
        accounts=shared.accounts,
        api=api,
    )
    background = {"suppressions": pusher.run, "account_checks": checks.run}
    return ChannelParts(webhooks.handle, interpret, background)


async def serve(settings: SenderEmailSettings, stop: asyncio.Event) -> None:
    """Run the sender until `stop` is set."""
    token_key = settings.token_key()
    async with HttpTransport(
        connections_max=settings.sender_email_concurrency_max + 16,  # look-ups come beside
        request_seconds_max=settings.sender_email_request_seconds_max,
        created_bytes_max=ERRORS_BYTES_MAX,
    ) as transport:
        api = SendGridApi(transport, settings.sendgrid_api_url)
        provider = SendGridProvider(
            transport,
            token_key,
            api_url=settings.sendgrid_api_url,
            public_url=settings.sender_email_public_url,
        )
        wiring = Wiring(
            name=NAME,
            provider=provider,
            parts=lambda shared: _parts(shared, api, token_key),
            http_host=settings.sender_email_http_host,
            http_port=settings.sender_email_http_port,
            concurrency_max=settings.sender_email_concurrency_max,
            concurrency_start=settings.sender_email_concurrency_start,
            upload_seconds_max=settings.sender_email_request_seconds_max,
        )
        await run_sender(settings, wiring, stop)

"""The email sender: the shared sender with SendGrid as its provider."""

import asyncio
from typing import Final

from aiohttp import web

from outreach.sending.attempt_token import TokenKey
from outreach.sending.endpoint import HEALTH_PATH, health
from outreach.sending.inbox import InboxEntry
from outreach.sending.sender import ChannelParts, SharedParts, Wiring, run_sender
from outreach.sending.transport import HttpTransport
from services.sender_email.adapter import SendGridProvider
from services.sender_email.settings import SenderEmailSettings

NAME = "sender_email"
#: A 400 may name each of 1,000 recipients.
ERRORS_BYTES_MAX: Final = 1024 * 1024


def _nothing(_: InboxEntry) -> None:
    """No webhooks are stored yet."""


async def serve(settings: SenderEmailSettings, stop: asyncio.Event) -> None:
    """Run the sender until `stop` is set."""
    token_key = TokenKey(settings.attempt_token_key.get_secret_value())

    def parts(shared: SharedParts) -> ChannelParts:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == HEALTH_PATH:
                return health(shared.faults)
            return web.Response(status=404)

        return ChannelParts(handle, _nothing)

    async with HttpTransport(
        connections_max=settings.sender_email_concurrency_max + 16,  # look-ups come beside
        request_seconds_max=settings.sender_email_request_seconds_max,
        created_bytes_max=ERRORS_BYTES_MAX,
    ) as transport:
        provider = SendGridProvider(
            transport,
            token_key,
            api_url=settings.sendgrid_api_url,
            public_url=settings.sender_email_public_url,
        )
        wiring = Wiring(
            name=NAME,
            provider=provider,
            parts=parts,
            http_host=settings.sender_email_http_host,
            http_port=settings.sender_email_http_port,
            concurrency_max=settings.sender_email_concurrency_max,
            concurrency_start=settings.sender_email_concurrency_start,
        )
        await run_sender(settings, wiring, stop)

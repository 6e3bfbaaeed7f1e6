"""The SMS sender: the shared sender with Twilio as its provider."""

import asyncio

from outreach.sending.opt_outs import committing
from outreach.sending.sender import ChannelParts, SharedParts, Wiring, run_sender
from services.sender_sms.adapter import TwilioProvider
from services.sender_sms.events import interpret
from services.sender_sms.settings import SenderSmsSettings
from services.sender_sms.transport import TwilioTransport
from services.sender_sms.webhooks import Webhooks

NAME = "sender_sms"


async def serve(settings: SenderSmsSettings, stop: asyncio.Event) -> None:
    """Run the sender until `stop` is set."""
    token_key = settings.token_key()

    def parts(shared: SharedParts) -> ChannelParts:
        webhooks = Webhooks(
            commit=committing(shared.stream, shared.reporter),
            inbox=shared.inbox,
            accounts=shared.accounts,
            token_key=token_key,
            webhook_url=settings.sender_sms_webhook_url,
            faults=shared.faults,
        )
        return ChannelParts(webhooks.handle, interpret)

    async with TwilioTransport(
        connections_max=settings.sender_sms_concurrency_max + 16,  # look-ups come beside
        request_seconds_max=settings.sender_sms_request_seconds_max,
    ) as transport:
        provider = TwilioProvider(
            transport,
            token_key,
            api_url=settings.twilio_api_url,
            webhook_url=settings.sender_sms_webhook_url,
        )
        wiring = Wiring(
            name=NAME,
            provider=provider,
            parts=parts,
            http_host=settings.sender_sms_http_host,
            http_port=settings.sender_sms_http_port,
            concurrency_max=settings.sender_sms_concurrency_max,
            concurrency_start=settings.sender_sms_concurrency_start,
        )
        await run_sender(settings, wiring, stop)

"""Whether a run is over: nothing is on its way any more from the provider to the database."""

from __future__ import annotations

import asyncio

import aiohttp
import nats
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from outreach.jetstream.topology import INBOX_STREAM
from outreach.local.sandbox_client import SandboxClient, SandboxRefused

_LOOK_SECONDS = 0.2
#: A post that was given up, or repeated by a duplicate, may still be on its way to the inbox for a moment.
_QUIET_LOOKS = 3
_CONNECT_SECONDS_MAX = 2


async def until_settled(sandbox: SandboxClient, nats_url: str) -> None:
    """Wait until the provider has nothing to tell any more, and the inbox is empty."""
    quiet = 0
    while quiet < _QUIET_LOOKS:
        still = not await pending_webhooks(sandbox) and not await inbox_entries(nats_url)
        quiet = quiet + 1 if still else 0
        await asyncio.sleep(_LOOK_SECONDS)


async def pending_webhooks(sandbox: SandboxClient) -> int | None:
    """Messages and emails of which the provider has something to tell; None: it does not answer."""
    try:
        messages = int((await sandbox.ledger())["messages_with_pending_callbacks"])
        emails = int((await sandbox.email_ledger())["emails_with_pending_events"])
    except (aiohttp.ClientError, TimeoutError, SandboxRefused):
        return None
    return messages + emails


async def inbox_entries(nats_url: str) -> int | None:
    """Stored webhooks that are not committed yet; None: NATS does not answer, or has no inbox."""
    try:
        connection = await nats.connect(
            nats_url, allow_reconnect=False, connect_timeout=_CONNECT_SECONDS_MAX
        )
    except (NatsError, OSError, TimeoutError):
        return None
    try:
        info = await connection.jetstream().stream_info(INBOX_STREAM)
    except (NatsError, NotFoundError, TimeoutError):
        return None
    finally:
        await connection.close()
    return info.state.messages

"""The email sender's endpoint: SendGrid's events, unsubscribe links, health."""

from typing import Final

from aiohttp import web

from outreach.sending.attempt_token import TokenKey
from outreach.sending.endpoint import HEALTH_PATH, Faults, Refused, health
from outreach.sending.inbox import Inbox
from outreach.sending.opt_outs import Commit
from services.sender_email.event_webhook import (
    FUTURE_SECONDS_MAX,
    PAST_SECONDS_MAX,
    EventWebhook,
)
from services.sender_email.request import UNSUBSCRIBE_PATH
from services.sender_email.suppressions import SuppressionQueue
from services.sender_email.unsubscribe import UnsubscribeLinks
from services.sender_email.webhook_keys import WebhookKeys

#: Followed by the organisation's token.
EVENTS_PATH: Final = "/sendgrid/events/"


class Webhooks:
    """Handles every request of the endpoint; `handle` is an aiohttp low-level handler."""

    def __init__(
        self,
        *,
        commit: Commit,
        inbox: Inbox,
        suppressions: SuppressionQueue,
        keys: WebhookKeys,
        token_key: TokenKey,
        faults: Faults,
        past_seconds_max: float = PAST_SECONDS_MAX,
        future_seconds_max: float = FUTURE_SECONDS_MAX,
    ) -> None:
        self._events = EventWebhook(
            inbox=inbox,
            keys=keys,
            token_key=token_key,
            past_seconds_max=past_seconds_max,
            future_seconds_max=future_seconds_max,
        )
        self._links = UnsubscribeLinks(
            commit=commit, inbox=inbox, suppressions=suppressions, token_key=token_key
        )
        self._faults = faults

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request: `/healthz`, a post of events, an unsubscribe link, or 404."""
        path = request.path
        if path == HEALTH_PATH:
            return health(self._faults)
        try:
            if path.startswith(UNSUBSCRIBE_PATH):
                return await self._links.answer(request, path[len(UNSUBSCRIBE_PATH) :])
            if not path.startswith(EVENTS_PATH):
                raise Refused(404)
            await self._events.take(request, path[len(EVENTS_PATH) :])
        except Refused as refused:
            return web.Response(status=refused.status)
        return web.Response(status=204)

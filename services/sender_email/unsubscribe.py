"""Unsubscribe links: a look changes nothing, a POST unsubscribes (RFC 8058).

Link scanners of mail providers open every link, so GET and HEAD only show a page with a button. A
mail provider's own "unsubscribe" posts `List-Unsubscribe=One-Click`, as the button does; whatever
the body says, somebody who has the link meant it. It is answered 200 once it is committed, with no
redirect and no cookie; when that takes long, once it is stored in the inbox. (JetStream may lose what
it has acknowledged, and nobody repeats an unsubscribe.) The token is all that is needed: it works
when the campaign is gone, while the campaign service is away, and as often as it is used.
"""

from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import web

from outreach.jetstream.publisher import NotStored
from outreach.sending.attempt_token import InvalidToken, TokenKey
from outreach.sending.endpoint import read_body
from outreach.sending.inbox import Inbox
from outreach.sending.opt_outs import Commit
from services.sender_email import unsubscribe_pages as pages
from services.sender_email.events import link_opt_out, link_used
from services.sender_email.suppressions import SuppressionQueue

#: A mail provider's body has 26 bytes, or a few hundred as multipart.
BODY_BYTES_MAX: Final = 16 * 1024
METHODS: Final = "GET, HEAD, POST"

_log = structlog.get_logger(__name__)


class UnsubscribeLinks:
    """Answers the requests of unsubscribe links."""

    def __init__(
        self, *, commit: Commit, inbox: Inbox, suppressions: SuppressionQueue, token_key: TokenKey
    ) -> None:
        self._commit = commit
        self._inbox = inbox
        self._suppressions = suppressions
        self._token_key = token_key

    async def answer(self, request: web.BaseRequest, token: str) -> web.Response:
        """The page, or the confirmation. Raises Refused for a body that is too long."""
        if request.method not in ("GET", "HEAD", "POST"):
            return web.Response(status=405, headers={"Allow": METHODS})
        try:
            unsubscribe = self._token_key.read_unsubscribe(token)
        except InvalidToken:
            return pages.unknown()
        if request.method != "POST":
            return pages.asking()
        await read_body(request, BODY_BYTES_MAX)
        organisation_id = str(unsubscribe.organisation_id)
        now = datetime.now(UTC)
        try:
            entry = link_used(unsubscribe, now)
            if not await self._commit(link_opt_out(entry)):
                # without an id: used again after an opt-in it opts out again
                await self._inbox.store(entry, entry_id="")
            await self._suppressions.store(unsubscribe, now)
        except NotStored:
            _log.warning("unsubscribe_not_stored", organisation_id=organisation_id)
            return pages.later()
        _log.info(
            "unsubscribed",
            organisation_id=organisation_id,
            campaign_id=str(unsubscribe.campaign_id),
        )
        return pages.done()

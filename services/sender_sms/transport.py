"""Our transport to Twilio: forms, with the account's credentials."""

import base64
from collections.abc import Callable
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from outreach.sending.transport import BegunPayload, HttpAnswer, HttpTransport

FORM_TYPE: Final = "application/x-www-form-urlencoded"


def basic_headers(account_sid: str, auth_token: str) -> CIMultiDict[str]:
    """The headers of every request of an account."""
    credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode("ascii")
    return CIMultiDict(
        {
            hdrs.AUTHORIZATION: f"Basic {credentials}",
            hdrs.ACCEPT: "application/json",
            hdrs.USER_AGENT: "outreach",
        }
    )


class TwilioTransport(HttpTransport):
    """Requests to Twilio."""

    async def post(
        self, url: URL, headers: CIMultiDict[str], form: bytes, begin: Callable[[], None]
    ) -> HttpAnswer:
        """Post a form. Raises NothingLeft or AnswerLost; `begin` is called as `Provider` says."""
        return await self.post_payload(url, headers, BegunPayload((form,), FORM_TYPE, begin))

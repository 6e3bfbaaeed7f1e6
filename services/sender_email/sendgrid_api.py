"""SendGrid's API beside mail/send: small requests that may be made again."""

from collections.abc import Mapping
from typing import Any

import orjson
from yarl import URL

from outreach.sending.transport import HttpAnswer, HttpTransport
from services.sender_email.adapter import bearer_headers


class SendGridApi:
    """Requests with an account's API key. `api_url`: without a slash at its end."""

    def __init__(self, transport: HttpTransport, api_url: str) -> None:
        self._transport = transport
        self._api_url = api_url

    async def get(
        self, api_key: str, path: str, query: Mapping[str, str | int] | None = None
    ) -> HttpAnswer | None:
        """Get `path`; None when there is no answer."""
        return await self._transport.get(self._url(path).with_query(query), bearer_headers(api_key))

    async def post(self, api_key: str, path: str, value: object) -> HttpAnswer | None:
        """Post a value as JSON; None when there is no answer."""
        body = orjson.dumps(value)
        return await self._transport.ask("POST", self._url(path), bearer_headers(api_key), body)

    def _url(self, path: str) -> URL:
        return URL(f"{self._api_url}{path}")


def json_of(answer: HttpAnswer) -> Any:
    """The answer's JSON; None when it is none."""
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None

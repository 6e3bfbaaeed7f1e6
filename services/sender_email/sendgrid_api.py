"""SendGrid's API beside mail/send: small requests, each made once."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import orjson
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

JSON_TYPE: Final = "application/json"


class HttpAnswer(Protocol):
    """A complete answer."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def body(self) -> bytes:
        """The whole body."""
        ...


class Http(Protocol):
    """What is needed of a transport: explicit time-outs, bounded answers, no retries, no redirects."""

    async def get(self, url: URL, headers: CIMultiDict[str]) -> HttpAnswer | None:
        """Get a resource; None when it could not be had."""
        ...

    async def post_json(
        self, url: URL, headers: CIMultiDict[str], body: bytes
    ) -> HttpAnswer | None:
        """Post JSON; None when there is no answer, which leaves open what became of it."""
        ...


class SendGridApi:
    """Requests with an account's API key."""

    def __init__(self, http: Http, api_url: str) -> None:
        self._http = http
        self._api_url = api_url

    async def get(
        self, api_key: str, path: str, query: Mapping[str, str | int] | None = None
    ) -> HttpAnswer | None:
        """Get `path`; None when there is no answer."""
        return await self._http.get(self._url(path).with_query(query), _headers(api_key))

    async def post(self, api_key: str, path: str, value: object) -> HttpAnswer | None:
        """Post a value as JSON; None when there is no answer."""
        headers = _headers(api_key)
        headers[hdrs.CONTENT_TYPE] = JSON_TYPE
        return await self._http.post_json(self._url(path), headers, orjson.dumps(value))

    def _url(self, path: str) -> URL:
        return URL(f"{self._api_url}{path}")


def json_of(answer: HttpAnswer) -> Any:
    """The answer's JSON; None when it is none."""
    try:
        return orjson.loads(answer.body)
    except ValueError:
        return None


def _headers(api_key: str) -> CIMultiDict[str]:
    return CIMultiDict(
        {
            hdrs.AUTHORIZATION: f"Bearer {api_key}",
            hdrs.ACCEPT: JSON_TYPE,
            hdrs.USER_AGENT: "outreach",
        }
    )

"""Our hand-built form and the twilio package's own create are the same request, byte for byte."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Any

import aiohttp
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.http import AsyncHttpClient  # no stubs: see pyproject.toml
from twilio.http.response import Response
from twilio.rest import Client

from outreach.internal.v1 import delivery_pb2
from outreach.v1 import campaign_pb2
from services.sender_sms.form import CreateForm, validity_seconds
from services.sender_sms.transport import basic_headers

ACCOUNT = "AC" + "0" * 32
SERVICE = "MG" + "1" * 32
TOKEN = "abcXYZ-_019"
URL = "https://hooks.example.test/outreach"


class Recorder(AsyncHttpClient):  # type: ignore[misc, unused-ignore]
    """The package's transport, which keeps the request instead of sending it."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("tests"), True)
        self.requests: list[dict[str, Any]] = []

    async def request(self, method: str, uri: str, **more: Any) -> Response:
        self.requests.append({"method": method, "uri": uri, **more})
        return Response(201, '{"sid": "SM1", "status": "accepted"}')


def sdk_request(**create: Any) -> dict[str, Any]:
    recorder = Recorder()
    client = Client(ACCOUNT, "secret", http_client=recorder)
    asyncio.run(client.messages.create_async(**create))
    return recorder.requests[0]


def sdk_form(**create: Any) -> bytes:
    """The bytes that aiohttp, the package's own transport, makes of the create's data."""
    payload = aiohttp.FormData(sdk_request(**create)["data"])()
    return asyncio.run(payload.as_bytes())


@settings(deadline=None)
@given(
    body=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    seconds=st.none() | st.integers(1, 36_000),
    sender=st.sampled_from(["service", "number"]),
)
def test_the_form_is_the_packages(body: str, seconds: int | None, sender: str) -> None:
    ours = campaign_pb2.SmsSender()
    theirs: dict[str, Any] = {}
    if sender == "service":
        ours.messaging_service_sid = theirs["messaging_service_sid"] = SERVICE
    else:
        setattr(ours, "from", "+15005550006")
        theirs["from_"] = "+15005550006"
    if seconds is not None:
        theirs["validity_period"] = seconds
    form = CreateForm(sender=ours, webhook_url=URL, validity_seconds=seconds)
    assert form.encode(to="+41790000001", token=TOKEN, body=body) == sdk_form(
        to="+41790000001",
        status_callback=f"{URL}/twilio/status/{TOKEN}#rc=5&rp=all",
        body=body,
        **theirs,
    )


def test_url_method_and_credentials_are_the_packages() -> None:
    request = sdk_request(to="+41790000001", messaging_service_sid=SERVICE, body="x")
    assert request["method"] == "POST"
    assert request["uri"] == f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    assert request["headers"]["Content-Type"] == "application/x-www-form-urlencoded"
    login, password = request["auth"]
    expected = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
    assert basic_headers(ACCOUNT, "secret")["Authorization"] == expected


def test_the_validity_period_is_the_campaigns_or_the_organisations() -> None:
    account = delivery_pb2.TwilioAccount(validity_period=Duration(seconds=60))
    own = campaign_pb2.SmsContent(validity_period=Duration(seconds=30))
    assert validity_seconds(own, account) == 30
    assert validity_seconds(campaign_pb2.SmsContent(), account) == 60
    assert validity_seconds(campaign_pb2.SmsContent(), delivery_pb2.TwilioAccount()) is None

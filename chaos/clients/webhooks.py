"""Webhooks that no provider made: forged, stale, cut short, replayed.

Whoever forges knows all that can be known without a key: URLs with genuine tokens, and what a
genuine webhook looks like. Those that are stale, cut or replayed were signed with the real key.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import aiohttp
import orjson

from chaos.history import Forged, History
from outreach.vocabulary import Channel, MessageStatus
from services.sandbox.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookKey
from services.sandbox.twilio.signature import signature

TWILIO_SIGNATURE_HEADER = "X-Twilio-Signature"
#: Far beyond what a sender takes for a late post of SendGrid's.
STALE_SECONDS = 3 * 24 * 3600

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The message that a forged webhook claims to be about.

    Attributes:
        token: of its attempt.
        provider_message_id: a genuine one when a genuine webhook is replayed.
    """

    campaign_id: str
    number: int
    recipient: str
    token: str
    provider_message_id: str

    def of_provider(self, provider_message_id: str) -> Target:
        """The same with the provider's own id."""
        return replace(self, provider_message_id=provider_message_id)


#: Kind, URL, body, headers, and what the message would become.
_Post = Callable[[str, str, bytes, Mapping[str, str], MessageStatus | None], Awaitable[None]]


class Forger:
    """Posts such webhooks to a sender of each channel, and writes down how they were answered.

    Args:
        http: a session of its own.
        history: gets what was posted.
        status_url: of the SMS sender's status callbacks, before the token.
        event_url: of the organisation's events.
        auth_token: signs Twilio's webhooks.
        event_key: signs SendGrid's.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        history: History,
        *,
        status_url: str,
        event_url: str,
        auth_token: str,
        event_key: WebhookKey,
    ) -> None:
        self._http = http
        self._history = history
        self._status_url = status_url
        self._event_url = event_url
        self._auth_token = auth_token.encode()
        self._event_key = event_key

    async def forge_sms(self, target: Target) -> None:
        """Everything that must be refused, about a message that would be delivered or failed by it."""
        form = _status_form(target, "delivered")
        url = f"{self._status_url}{target.token}"
        signed = {TWILIO_SIGNATURE_HEADER: self._sign(url, form)}
        wrong = {TWILIO_SIGNATURE_HEADER: self._sign(f"{url}x", form)}
        failed = _status_form(target, "failed", ErrorCode="30003")
        body = urlencode(form).encode()
        claims_delivered, claims_failed = MessageStatus.DELIVERED, MessageStatus.FAILED
        post = self._posting(Channel.SMS, target)
        await post("unsigned", url, body, FORM, claims_delivered)
        await post("wrong signature", url, body, {**FORM, **wrong}, claims_delivered)
        await post(
            "signature of another form",
            url,
            urlencode(failed).encode(),
            {**FORM, **signed},
            claims_failed,
        )
        await post("truncated", url, body[: len(body) // 2], {**FORM, **signed}, claims_delivered)
        unknown = f"{self._status_url}{_changed(target.token)}"
        signed = {TWILIO_SIGNATURE_HEADER: self._sign(unknown, form)}
        await post("unknown token", unknown, body, {**FORM, **signed}, claims_delivered)

    async def replay_sms(self, target: Target, statuses: tuple[str, ...]) -> None:
        """Callbacks that the provider has made before, signed as it signs them."""
        post = self._posting(Channel.SMS, target, must_refuse=False)
        url = f"{self._status_url}{target.token}"
        for status in statuses:
            form = _status_form(target, status)
            headers = {**FORM, TWILIO_SIGNATURE_HEADER: self._sign(url, form)}
            await post("replayed", url, urlencode(form).encode(), headers, None)

    async def forge_email(self, target: Target) -> None:
        """Everything that must be refused, about an email that would be delivered by it."""
        body = orjson.dumps([_event(target, "delivered")])
        now = str(int(time.time()))
        stale = str(int(time.time()) - STALE_SECONDS)
        other_key = WebhookKey(None)
        claims = MessageStatus.DELIVERED
        post, url = self._posting(Channel.EMAIL, target), self._event_url
        await post("unsigned", url, body, JSON, claims)
        forged = {SIGNATURE_HEADER: other_key.sign(now, body), TIMESTAMP_HEADER: now}
        await post("wrong signature", url, body, {**JSON, **forged}, claims)
        bounced = orjson.dumps([_event(target, "bounce")])
        signed = {SIGNATURE_HEADER: self._event_key.sign(now, body), TIMESTAMP_HEADER: now}
        await post(
            "signature of another post", url, bounced, {**JSON, **signed}, MessageStatus.FAILED
        )
        await post("truncated", url, body[: len(body) // 2], {**JSON, **signed}, claims)
        late = {SIGNATURE_HEADER: self._event_key.sign(stale, body), TIMESTAMP_HEADER: stale}
        await post("stale", url, body, {**JSON, **late}, claims)
        other_url = f"{url[:-4]}AAAA"
        await post("unknown token", other_url, body, {**JSON, **signed}, claims)

    async def replay_email(self, target: Target, event: str) -> None:
        """An event that the provider has posted before, signed as it signs them."""
        body = orjson.dumps([_event(target, event)])
        now = str(int(time.time()))
        headers = {SIGNATURE_HEADER: self._event_key.sign(now, body), TIMESTAMP_HEADER: now}
        post = self._posting(Channel.EMAIL, target, must_refuse=False)
        await post("replayed", self._event_url, body, {**JSON, **headers}, None)

    def _sign(self, url: str, form: Mapping[str, str]) -> str:
        return signature(self._auth_token, url, sorted(form.items()))

    def _posting(self, channel: Channel, target: Target, *, must_refuse: bool = True) -> _Post:
        async def post(
            kind: str,
            url: str,
            body: bytes,
            headers: Mapping[str, str],
            claimed_status: MessageStatus | None,
        ) -> None:
            begun_time = time.time()
            status: int | None = None
            try:
                async with self._http.post(url, data=body, headers=headers) as answer:
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError):
                pass  # the sender is down, by a fault
            self._history.forged.append(
                Forged(
                    kind=kind,
                    channel=channel,
                    time=begun_time,
                    http_status=status,
                    must_refuse=must_refuse,
                    campaign_id=target.campaign_id,
                    number=target.number,
                    claimed_status=claimed_status,
                    mark=target.provider_message_id if must_refuse else "",
                )
            )

        return post


def _changed(token: str) -> str:
    """A token that nobody has signed."""
    return ("B" if token[0] == "A" else "A") + token[1:]


def _status_form(target: Target, status: str, **more: str) -> dict[str, str]:
    return {
        "MessageSid": target.provider_message_id,
        "MessageStatus": status,
        "SmsSid": target.provider_message_id,
        "SmsStatus": status,
        "To": target.recipient,
        **more,
    }


def _event(target: Target, event: str) -> dict[str, object]:
    return {
        "email": target.recipient,
        "timestamp": int(time.time()),
        "event": event,
        "sg_event_id": secrets.token_urlsafe(16),
        "sg_message_id": target.provider_message_id,
        "attempt_id": target.token,
    }

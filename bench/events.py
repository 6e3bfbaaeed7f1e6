"""SendGrid's event webhook as a benchmark plays it: events of a campaign's messages, batched and signed."""

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import aiohttp
import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outreach.local.stack import LocalStack

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
_ALGORITHM = ec.ECDSA(hashes.SHA256())


class SignedPost(NamedTuple):
    """One POST, made beforehand."""

    body: bytes
    headers: dict[str, str]


class WebhookSigner:
    """A key as SendGrid has one for each account."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.verifying_key = self._key.public_key()

    @property
    def public_key(self) -> str:
        """Base64 of its DER, as SendGrid gives it."""
        der = self.verifying_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(der).decode()

    def signed(self, body: bytes) -> SignedPost:
        timestamp = str(int(time.time()))
        signature = self._key.sign(timestamp.encode() + body, _ALGORITHM)
        headers = {
            SIGNATURE: base64.b64encode(signature).decode(),
            TIMESTAMP: timestamp,
            "Content-Type": "application/json",
        }
        return SignedPost(body, headers)


def is_signed(signer: WebhookSigner, headers: Mapping[str, str], body: bytes) -> bool:
    signature = base64.b64decode(headers[SIGNATURE])
    try:
        signer.verifying_key.verify(signature, headers[TIMESTAMP].encode() + body, _ALGORITHM)
    except InvalidSignature:
        return False
    return True


def delivered_events(
    stack: LocalStack,
    signer: WebhookSigner,
    campaign_id: UUID,
    messages: int,
    *,
    events_a_post: int,
) -> list[SignedPost]:
    """One `delivered` for the first attempt of each message, in batches."""
    sign = stack.token_key.sign_attempt
    organisation, campaign = stack.organisation_id.bytes, campaign_id.bytes
    now = int(time.time())
    posts = []
    for first in range(1, messages + 1, events_a_post):
        events = [
            {
                "email": f"person.{number}@example.org",
                "timestamp": now,
                "smtp-id": "<bench@geopod-ismtpd-1>",
                "event": "delivered",
                "sg_event_id": base64.urlsafe_b64encode(
                    f"delivered-{campaign_id}-{number}".encode()
                ).decode(),
                "sg_message_id": f"sink{number:018d}.filterdrecv-1.{number}",
                "response": "250 2.0.0 OK",
                "tls": 1,
                "ip": "192.0.2.1",
                "attempt_id": sign(organisation, campaign, number, 1),
            }
            for number in range(first, min(first + events_a_post, messages + 1))
        ]
        posts.append(signer.signed(orjson.dumps(events)))
    return posts


class Poster:
    """Posts what is ready, some at a time."""

    def __init__(self, session: aiohttp.ClientSession, url: str, at_once: int) -> None:
        self._session = session
        self._url = url
        self._at_once = at_once

    async def post(self, posts: Sequence[SignedPost]) -> None:
        waiting = iter(posts)

        async def one_after_another() -> None:
            for post in waiting:
                async with self._session.post(
                    self._url, data=post.body, headers=post.headers
                ) as answer:
                    assert answer.status // 100 == 2, answer.status

        await asyncio.gather(*(one_after_another() for _ in range(self._at_once)))

"""The keys of the signed event webhook: given with the account, or asked from SendGrid.

The signature is ECDSA on P-256 with SHA-256, over timestamp and raw body. (The sendgrid package's
`EventWebhook` takes only a text for the body, looks at no timestamp, and its import loads the whole
package, 0.1 s and more; a test holds names, keys and signatures to it.)
"""

import asyncio
import binascii
import hashlib
import time
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from outreach.sending.contents import Accounts
from services.sender_email.sendgrid_api import SendGridApi, json_of

SIGNATURE_HEADER: Final = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER: Final = "X-Twilio-Email-Event-Webhook-Timestamp"
PUBLIC_KEY_PATH: Final = "/v3/user/webhooks/event/settings/signed"

#: After a signature that did not fit, SendGrid is asked for the key again, at most so often.
ASK_AGAIN_SECONDS: Final = 60.0
#: While there is no key at all, SendGrid is asked at most so often.
ASK_FIRST_SECONDS: Final = 5.0
KEYS_MAX: Final = 1_000
SIGNATURE_CHARACTERS_MAX: Final = 256

_ALGORITHM: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_log = structlog.get_logger(__name__)


class NoKey(Exception):
    """There is no usable key at the moment, so nothing can be verified."""


@dataclass(frozen=True, slots=True)
class SignedBody:
    """What was signed, and the signature, as they came."""

    digest: bytes
    signature: bytes

    @classmethod
    def read(cls, timestamp: str, body: bytes, signature: str) -> "SignedBody":
        """Raises ValueError when there is no signature."""
        if len(signature) > SIGNATURE_CHARACTERS_MAX:
            raise ValueError("too long")
        raw = b64decode(signature, validate=True)  # binascii.Error is a ValueError
        digest = hashlib.sha256(timestamp.encode())
        digest.update(body)
        return cls(digest.digest(), raw)

    def is_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Whether the owner of the key signed it."""
        try:
            key.verify(self.signature, self.digest, _ALGORITHM)
        except InvalidSignature:
            return False
        return True


@lru_cache(maxsize=KEYS_MAX)
def public_key_of(text: str) -> ec.EllipticCurvePublicKey | None:
    """The key as SendGrid shows it (base64 of its DER); None when it is no key on P-256."""
    try:
        key = load_der_public_key(b64decode("".join(text.split()), validate=True))
    except (ValueError, binascii.Error):
        return None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return None
    return key


@dataclass(frozen=True, slots=True)
class _Asked:
    """The key that SendGrid told, if it did; `time` on the monotonic clock."""

    key: ec.EllipticCurvePublicKey | None
    time: float


class WebhookKeys:
    """Verifies signatures, by organisation."""

    def __init__(
        self,
        accounts: Accounts,
        api: SendGridApi,
        *,
        ask_again_seconds: float = ASK_AGAIN_SECONDS,
    ) -> None:
        self._accounts = accounts
        self._api = api
        self._ask_again_seconds = ask_again_seconds
        self._asked: OrderedDict[UUID, _Asked] = OrderedDict()
        self._asking: dict[UUID, asyncio.Lock] = {}

    async def is_signed(self, organisation_id: UUID, signed: SignedBody) -> bool:
        """Whether the organisation's SendGrid account signed it.

        Raises:
            NoKey: it can't be told now.
            grpc.aio.AioRpcError: the account could not be had.
        """
        account = (await self._accounts.get(organisation_id)).sendgrid
        if account.webhook_public_key:
            key = public_key_of(account.webhook_public_key)
            if key is None:
                _log.error("webhook_key_unusable", organisation_id=str(organisation_id))
                raise NoKey
            return signed.is_by(key)
        known = await self._ask(organisation_id, account.api_key, older_than=None)
        if signed.is_by(known):
            return True
        # perhaps it was changed
        again = await self._ask(
            organisation_id, account.api_key, older_than=self._ask_again_seconds
        )
        return again is not known and signed.is_by(again)

    async def _ask(
        self, organisation_id: UUID, api_key: str, *, older_than: float | None
    ) -> ec.EllipticCurvePublicKey:
        """The key as known, or as SendGrid tells it now if it was asked longer ago than that."""
        lock = self._asking.setdefault(organisation_id, asyncio.Lock())
        try:
            async with lock:
                known = self._asked.get(organisation_id)
                if known is None or _is_due(known, older_than):
                    known = await self._fetch(organisation_id, api_key, known)
        finally:
            if not lock.locked():
                self._asking.pop(organisation_id, None)
        if known.key is None:
            raise NoKey
        return known.key

    async def _fetch(self, organisation_id: UUID, api_key: str, known: _Asked | None) -> _Asked:
        answer = await self._api.get(api_key, PUBLIC_KEY_PATH)
        told = json_of(answer) if answer is not None and answer.status == 200 else None
        text = told.get("public_key") if isinstance(told, dict) else None
        key = public_key_of(text) if isinstance(text, str) else None
        if key is None:
            _log.warning(
                "webhook_key_not_told",
                organisation_id=str(organisation_id),
                status=answer.status if answer is not None else None,
            )
            key = known.key if known is not None else None  # an old one is better than none
        asked = _Asked(key, time.monotonic())
        self._asked[organisation_id] = asked
        self._asked.move_to_end(organisation_id)
        if len(self._asked) > KEYS_MAX:
            self._asked.popitem(last=False)
        return asked


def _is_due(known: _Asked, older_than: float | None) -> bool:
    if known.key is None:
        return time.monotonic() - known.time >= ASK_FIRST_SECONDS
    return older_than is not None and time.monotonic() - known.time >= older_than

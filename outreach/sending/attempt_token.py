"""Tokens in callback URLs: which attempt, or which organisation, a webhook is about.

Unguessable (a MAC), short, and made of `[A-Za-z0-9_-]` only, so no part of a URL quotes them in two
ways. They hold ids, no personal data.
"""

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass
from uuid import UUID

_MAC_BYTES = 10
_ATTEMPT = struct.Struct(">16s16sII")
_ATTEMPT_LABEL = b"attempt\0"
_ORGANISATION_LABEL = b"organisation\0"
_UNSUBSCRIBE = struct.Struct(">16s16sI16s")
_UNSUBSCRIBE_LABEL = b"unsubscribe\0"
#: Longer ones are refused before they are decoded.
TOKEN_CHARACTERS_MAX = 96


class InvalidToken(ValueError):
    """Not one of our tokens, or changed on its way."""


@dataclass(frozen=True, slots=True)
class AttemptId:
    """One attempt of one message."""

    organisation_id: UUID
    campaign_id: UUID
    number: int
    attempt: int


class TokenKey:
    """Signs and reads tokens with one secret key of at least 32 characters.

    All senders of a channel share it: a callback may reach any of them.
    """

    def __init__(self, key: str) -> None:
        if len(key) < 32:
            raise ValueError("the attempt token key needs at least 32 characters")
        self._key = key.encode()

    def sign_attempt(
        self, organisation_id: bytes, campaign_id: bytes, number: int, attempt: int
    ) -> str:
        """The token of an attempt; the ids are the UUIDs' 16 bytes (called once a message)."""
        return self._sign(
            _ATTEMPT_LABEL, _ATTEMPT.pack(organisation_id, campaign_id, number, attempt)
        )

    def read_attempt(self, token: str) -> AttemptId:
        """The attempt that a token stands for. Raises InvalidToken."""
        body = self._verify(_ATTEMPT_LABEL, token, _ATTEMPT.size)
        organisation_id, campaign_id, number, attempt = _ATTEMPT.unpack(body)
        return AttemptId(UUID(bytes=organisation_id), UUID(bytes=campaign_id), number, attempt)

    def sign_organisation(self, organisation_id: UUID) -> str:
        """The token under which an organisation's inbound messages arrive."""
        return self._sign(_ORGANISATION_LABEL, organisation_id.bytes)

    def read_organisation(self, token: str) -> UUID:
        """The organisation that a token stands for. Raises InvalidToken."""
        return UUID(bytes=self._verify(_ORGANISATION_LABEL, token, 16))

    def sign_unsubscribe(
        self, organisation_id: bytes, campaign_id: bytes, number: int, recipient_hash: bytes
    ) -> str:
        """The token of a recipient's unsubscribe link (called once a message)."""
        return self._sign(
            _UNSUBSCRIBE_LABEL,
            _UNSUBSCRIBE.pack(organisation_id, campaign_id, number, recipient_hash),
        )

    def _mac(self, label: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, label + body, "sha256")[:_MAC_BYTES]

    def _sign(self, label: bytes, body: bytes) -> str:
        return _encoded(body + self._mac(label, body))

    def _verify(self, label: bytes, token: str, size: int) -> bytes:
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise InvalidToken("too long")
        try:
            padded = token.encode("ascii") + b"=" * (-len(token) % 4)
            raw = base64.b64decode(padded, altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error) as error:
            raise InvalidToken("not base64") from error
        if _encoded(raw) != token:  # the decoder takes other spellings too; one token has one
            raise InvalidToken("not as we write it")
        body, mac = raw[:size], raw[size:]
        if len(body) != size or not hmac.compare_digest(mac, self._mac(label, body)):
            raise InvalidToken("wrong signature")
        return body


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")

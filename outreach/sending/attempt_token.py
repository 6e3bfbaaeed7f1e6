"""Tokens in URLs and custom arguments: which attempt, organisation or recipient a request is about.

Unguessable (a MAC), short, and made of `[A-Za-z0-9_-]` only, so no part of a URL quotes them in two
ways. They hold ids, no personal data.
"""

import binascii
import hmac
import struct
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from outreach.recipients import RECIPIENT_HASH_BYTES

_MAC_BYTES = 10
_ATTEMPT = struct.Struct(">16s16sII")
_ATTEMPT_LABEL = b"attempt\0"
_ORGANISATION_LABEL = b"organisation\0"
_UNSUBSCRIBE = struct.Struct(">16s16sI16s")
_UNSUBSCRIBE_LABEL = b"unsubscribe\0"
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_TO_URL = bytes.maketrans(b"+/", b"-_")
#: Ids that are kept as objects: of thousands of tokens most are about a few campaigns.
_IDS_KEPT_MAX = 4_096
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


@dataclass(frozen=True, slots=True)
class UnsubscribeId:
    """Whom an unsubscribe link is about: a recipient of an organisation, by their hash.

    Campaign and number say which message it was in; the hash is good also when these are gone.
    """

    organisation_id: UUID
    campaign_id: UUID
    number: int
    recipient_hash: bytes


class TokenKey:
    """Signs and reads tokens with one secret key of at least 32 characters.

    All senders of a channel share it: a callback may reach any of them.
    """

    def __init__(self, key: str) -> None:
        if len(key) < 32:
            raise ValueError("the attempt token key needs at least 32 characters")
        # Key and label are hashed once; thousands of events a second are verified with copies.
        self._macs = {
            label: hmac.new(key.encode(), label, "sha256")
            for label in (_ATTEMPT_LABEL, _ORGANISATION_LABEL, _UNSUBSCRIBE_LABEL)
        }

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
        return AttemptId(_uuid(organisation_id), _uuid(campaign_id), number, attempt)

    def sign_organisation(self, organisation_id: UUID) -> str:
        """The token under which an organisation's inbound messages arrive."""
        return self._sign(_ORGANISATION_LABEL, organisation_id.bytes)

    def read_organisation(self, token: str) -> UUID:
        """The organisation that a token stands for. Raises InvalidToken."""
        return UUID(bytes=self._verify(_ORGANISATION_LABEL, token, 16))

    def sign_unsubscribe(
        self, organisation_id: bytes, campaign_id: bytes, number: int, recipient_hash: bytes
    ) -> str:
        """The token of a recipient's unsubscribe link (called once a message).

        The ids are the UUIDs' 16 bytes; `recipient_hash` has 16 too.
        """
        if len(recipient_hash) != RECIPIENT_HASH_BYTES:  # struct would fill it up or cut it
            raise ValueError("not the hash of a recipient")
        return self._sign(
            _UNSUBSCRIBE_LABEL,
            _UNSUBSCRIBE.pack(organisation_id, campaign_id, number, recipient_hash),
        )

    def read_unsubscribe(self, token: str) -> UnsubscribeId:
        """The recipient that a token stands for. Raises InvalidToken."""
        body = self._verify(_UNSUBSCRIBE_LABEL, token, _UNSUBSCRIBE.size)
        organisation_id, campaign_id, number, recipient_hash = _UNSUBSCRIBE.unpack(body)
        return UnsubscribeId(_uuid(organisation_id), _uuid(campaign_id), number, recipient_hash)

    def _mac(self, label: bytes, body: bytes) -> bytes:
        mac = self._macs[label].copy()
        mac.update(body)
        return mac.digest()[:_MAC_BYTES]

    def _sign(self, label: bytes, body: bytes) -> str:
        return _encoded(body + self._mac(label, body)).decode("ascii")

    def _verify(self, label: bytes, token: str, size: int) -> bytes:
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise InvalidToken("too long")
        try:
            given = token.encode("ascii")
            raw = binascii.a2b_base64(given.translate(_FROM_URL) + b"==")
        except (UnicodeEncodeError, binascii.Error) as error:
            raise InvalidToken("not base64") from error
        if _encoded(raw) != given:  # the decoder takes other spellings too; one token has one
            raise InvalidToken("not as we write it")
        body, mac = raw[:size], raw[size:]
        if len(body) != size or not hmac.compare_digest(mac, self._mac(label, body)):
            raise InvalidToken("wrong signature")
        return body


def _encoded(raw: bytes) -> bytes:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=")


@lru_cache(maxsize=_IDS_KEPT_MAX)
def _uuid(raw: bytes) -> UUID:
    return UUID(bytes=raw)

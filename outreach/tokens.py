"""Opaque tokens that clients give back (page and resume tokens): signed, bound to their use."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_MAC_BYTES = 16
#: Longer ones are not ours.
TOKEN_CHARACTERS_MAX = 1_024


class TokenInvalidError(ValueError):
    """Not made by us, or for something else."""


class TokenSigner:
    """Signs with the first key, verifies with any.

    A token says nothing secret: the payload can be decoded by whoever holds it, but not changed,
    and not used for another purpose or another query.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("a token signer needs a key")
        self._keys = tuple(keys)

    def sign(self, purpose: str, payload: bytes, bound_to: bytes) -> str:
        """A token for `purpose` (`page`), good only together with `bound_to` (the query)."""
        mac = _mac(self._keys[0], purpose, payload, bound_to)
        return _encoded(mac + payload)

    def verify(self, purpose: str, token: str, bound_to: bytes) -> bytes:
        """The payload; TokenInvalidError when the token is not for this purpose and query."""
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise TokenInvalidError("too long")
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise TokenInvalidError("not a token") from None
        if _encoded(raw) != token:  # the decoder takes other spellings too; one token has one
            raise TokenInvalidError("not a token")
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        valid = [
            hmac.compare_digest(mac, _mac(key, purpose, payload, bound_to)) for key in self._keys
        ]
        if not any(valid):
            raise TokenInvalidError("not a token for this query")
        return payload


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _mac(key: bytes, purpose: str, payload: bytes, bound_to: bytes) -> bytes:
    # Fixed-length digests in between, so that no two triples make the same message.
    message = (
        hashlib.sha256(purpose.encode()).digest() + hashlib.sha256(bound_to).digest() + payload
    )
    return hmac.new(key, message, hashlib.sha256).digest()[:_MAC_BYTES]

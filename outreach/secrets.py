"""Keys derived from the service's one secret, and encryption at rest."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Shorter secrets are refused.
SECRET_KEY_CHARACTERS_MIN = 32

_ENCRYPTION = "credentials-encryption"
_RECIPIENTS = "recipient-hash"
_TOKENS = "tokens"


class SecretUnreadableError(Exception):
    """What was stored can't be decrypted with the keys that this process has."""


class Secrets:
    """All keys of a process.

    `key` is the secret in use, `retired` are former ones, newest first: they decrypt what was
    stored under them and verify their tokens, and make nothing new, save that recipients stay
    hashed under the oldest (a hash can't be made anew without the recipient).
    """

    def __init__(self, key: str, retired: Sequence[str] = ()) -> None:
        for secret in (key, *retired):
            if len(secret) < SECRET_KEY_CHARACTERS_MIN:
                raise ValueError(
                    f"a secret key needs at least {SECRET_KEY_CHARACTERS_MIN} characters"
                )
        self._keys = (key, *retired)
        self._fernet = MultiFernet(
            [
                Fernet(base64.urlsafe_b64encode(_derived(secret, _ENCRYPTION)))
                for secret in self._keys
            ]
        )

    def __repr__(self) -> str:
        return "Secrets(…)"

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, by HKDF-SHA256 from the key in use."""
        return _derived(self._keys[0], purpose)

    @property
    def token_keys(self) -> tuple[bytes, ...]:
        """Keys of page and resume tokens: the first signs, all verify."""
        return tuple(_derived(secret, _TOKENS) for secret in self._keys)

    @property
    def recipient_key(self) -> bytes:
        """The key of recipient hashes. It never changes while the oldest secret is listed."""
        return _derived(self._keys[-1], _RECIPIENTS)

    def encrypt(self, plain: bytes) -> bytes:
        """Under the key in use (Fernet: AES-128-CBC with HMAC-SHA256)."""
        return self._fernet.encrypt(plain)

    def decrypt(self, stored: bytes) -> bytes:
        """Under whichever key it was stored; SecretUnreadableError when that one is not here."""
        try:
            return self._fernet.decrypt(stored)
        except InvalidToken:
            raise SecretUnreadableError(
                "stored under a secret key that is not configured"
            ) from None


def _derived(secret: str, purpose: str) -> bytes:
    return HKDF(
        algorithm=SHA256(), length=32, salt=None, info=f"outreach/{purpose}".encode()
    ).derive(secret.encode())

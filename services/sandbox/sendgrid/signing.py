"""The signature of the event webhook: ECDSA on P-256 with SHA-256, over timestamp and raw body."""

from base64 import b64encode
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"

_ALGORITHM = ec.ECDSA(hashes.SHA256())


class WebhookKey:
    """The account's key pair.

    Args:
        path: where the private key is kept, made when it is missing; none: a new one each time.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None and path.exists():
            loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise TypeError("the kept key of the event webhook is no elliptic-curve key")
            self._key = loaded
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(
                self._key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )

    @property
    def public_key(self) -> str:
        """Base64 of the DER, as SendGrid shows it."""
        der = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return b64encode(der).decode()

    def sign(self, timestamp: str, body: bytes) -> str:
        """Value of the signature's header: base64 of the DER."""
        return b64encode(self._key.sign(timestamp.encode() + body, _ALGORITHM)).decode()

"""Keys and signatures of the event webhook: ours, the sandbox's and the sendgrid package's are the same."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from sendgrid.helpers.eventwebhook import EventWebhook, EventWebhookHeader

from services.sandbox.sendgrid.signing import WebhookKey
from services.sender_email.webhook_keys import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    SignedBody,
    public_key_of,
)

BODY = '[{"email":"é@example.com"},\r\n{"event":"delivered"}]\r\n'
TIMESTAMP = "1795000000"


def test_the_headers_are_the_packages() -> None:
    assert SIGNATURE_HEADER == EventWebhookHeader.SIGNATURE
    assert TIMESTAMP_HEADER == EventWebhookHeader.TIMESTAMP


def test_what_the_package_verifies_we_verify() -> None:
    key = WebhookKey(None)
    package = EventWebhook(key.public_key)
    ours = public_key_of(key.public_key)
    assert ours is not None
    assert ours.public_numbers() == package.public_key.public_numbers()
    signature = key.sign(TIMESTAMP, BODY.encode())
    assert package.verify_signature(BODY, signature, TIMESTAMP)
    assert SignedBody.read(TIMESTAMP, BODY.encode(), signature).is_by(ours)
    for timestamp, body in ((TIMESTAMP + "0", BODY), (TIMESTAMP, BODY.replace("\r\n", "\n"))):
        assert not package.verify_signature(body, signature, timestamp)
        assert not SignedBody.read(timestamp, body.encode(), signature).is_by(ours)


def test_timestamp_and_body_are_one_text() -> None:
    """As SendGrid signs it; the timestamp is checked to be a number, and events are no number."""
    key = WebhookKey(None)
    signature = key.sign("12", b"3[]")
    ours = public_key_of(key.public_key)
    assert ours is not None
    assert SignedBody.read("123", b"[]", signature).is_by(ours)


@pytest.mark.parametrize("signature", ["no base64", "é", "A", "A" * 257])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        SignedBody.read(TIMESTAMP, b"[]", signature)


@pytest.mark.parametrize(
    "signature", ["", "AAAA", b64encode(b"\x30\x06\x02\x01\x00\x02\x01\x00").decode()]
)
def test_an_invalid_signature_is_nobodys(signature: str) -> None:
    key = public_key_of(WebhookKey(None).public_key)
    assert key is not None
    assert not SignedBody.read(TIMESTAMP, b"[]", signature).is_by(key)


def test_a_key_may_be_broken_into_lines() -> None:
    text = WebhookKey(None).public_key
    assert public_key_of(f" {text[:64]}\n{text[64:]}\n") is not None


def _encoded(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return b64encode(der).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        "é",
        "AAAA",
        _encoded(ec.generate_private_key(ec.SECP384R1()).public_key()),
        _encoded(ed25519.Ed25519PrivateKey.generate().public_key()),
    ],
    ids=["empty", "text", "not ASCII", "not DER", "another curve", "another algorithm"],
)
def test_other_keys_are_none(text: str) -> None:
    assert public_key_of(text) is None


def test_a_truncated_key_is_none() -> None:
    der = b64decode(WebhookKey(None).public_key)
    assert public_key_of(b64encode(der[:-1]).decode()) is None

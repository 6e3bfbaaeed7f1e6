"""Keys derived from one secret, encryption, signed tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outreach.secrets import Secrets, SecretUnreadableError
from outreach.tokens import TokenInvalidError, TokenSigner

_NEW, _OLD = "n" * 32, "o" * 32


def test_each_purpose_has_its_own_key() -> None:
    secrets = Secrets(_NEW)
    assert len({secrets.derive("a"), secrets.derive("b"), secrets.recipient_key}) == 3
    assert secrets.derive("a") == Secrets(_NEW).derive("a")
    assert secrets.derive("a") != Secrets(_OLD).derive("a")


def test_a_retired_key_still_decrypts_and_verifies_and_hashes_recipients() -> None:
    old, rotated = Secrets(_OLD), Secrets(_NEW, [_OLD])
    assert rotated.decrypt(old.encrypt(b"token")) == b"token"
    token = TokenSigner(old.token_keys).sign("page", b"p", b"q")
    assert TokenSigner(rotated.token_keys).verify("page", token, b"q") == b"p"
    assert rotated.recipient_key == old.recipient_key
    with pytest.raises(SecretUnreadableError):
        old.decrypt(rotated.encrypt(b"token"))


def test_a_short_key_is_refused_and_a_key_is_never_shown() -> None:
    with pytest.raises(ValueError, match="32"):
        Secrets("short")
    assert _NEW not in repr(Secrets(_NEW))


@given(payload=st.binary(max_size=64), bound_to=st.binary(max_size=64))
def test_a_token_gives_back_its_payload(payload: bytes, bound_to: bytes) -> None:
    signer = TokenSigner([b"k" * 32])
    assert signer.verify("page", signer.sign("page", payload, bound_to), bound_to) == payload


@given(st.text(max_size=80))
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalidError):
        TokenSigner([b"k" * 32]).verify("page", text, b"q")


def test_a_token_is_good_for_one_purpose_one_query_and_one_key() -> None:
    signer = TokenSigner([b"k" * 32])
    token = signer.sign("page", b"payload", b"query")
    for other, purpose, bound_to in (
        (signer, "resume", b"query"),
        (signer, "page", b"another"),
        (TokenSigner([b"x" * 32]), "page", b"query"),
    ):
        with pytest.raises(TokenInvalidError):
            other.verify(purpose, token, bound_to)
    for place in range(len(token)):
        changed = "A" if token[place] != "A" else "B"
        tampered = token[:place] + changed + token[place + 1 :]
        # The last character carries bits that base64 ignores.
        if place < len(token) - 1:
            with pytest.raises(TokenInvalidError):
                signer.verify("page", tampered, b"query")
    with pytest.raises(TokenInvalidError):
        signer.verify("page", "A" * 5_000, b"query")

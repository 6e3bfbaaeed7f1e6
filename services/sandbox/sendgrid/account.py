"""The account: who may send, which groups there are."""

from dataclasses import dataclass
from typing import Any

ASM_GROUPS = frozenset({1, 2, 3})
"""Ids of the account's unsubscribe groups."""


@dataclass(frozen=True, slots=True)
class SendGridAccount:
    """API key, verified senders and authenticated domains; addresses and domains in lower case."""

    api_key: str
    verified_senders: tuple[str, ...]
    domains: tuple[str, ...]

    def may_send_as(self, email: str) -> bool:
        """Whether the From address is verified, or of an authenticated domain."""
        address = email.lower()
        return address in self.verified_senders or address.rpartition("@")[2] in self.domains

    def verified_senders_resource(self) -> dict[str, Any]:
        """`GET /v3/verified_senders`."""
        results = [
            {
                "id": 1_000 + at,
                "nickname": email.partition("@")[0],
                "from_email": email,
                "from_name": "",
                "reply_to": email,
                "reply_to_name": "",
                "address": "",
                "address2": "",
                "state": "",
                "city": "",
                "zip": "",
                "country": "",
                "verified": True,
                "locked": False,
            }
            for at, email in enumerate(self.verified_senders)
        ]
        return {"results": results}

    def domains_resource(self) -> list[dict[str, Any]]:
        """`GET /v3/whitelabel/domains`."""
        return [
            {
                "id": 2_000 + at,
                "user_id": 50485195,
                "subdomain": "em",
                "domain": domain,
                "username": "sandbox",
                "ips": [],
                "custom_spf": False,
                "default": at == 0,
                "legacy": False,
                "automatic_security": True,
                "valid": True,
            }
            for at, domain in enumerate(self.domains)
        ]

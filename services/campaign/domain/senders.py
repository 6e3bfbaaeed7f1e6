"""Who an organisation may send email as. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from outreach.errors import Violation
from services.campaign.domain.content import EmailContent

#: A refusal names no more of those that would be allowed.
NAMED_SENDERS_MAX = 5


@dataclass(frozen=True, slots=True)
class VerifiedSenders:
    """Single addresses, and domains of which every address may send (a subdomain is another one).

    As the provider told them; upper and lower case are alike.
    """

    addresses: frozenset[str]
    domains: frozenset[str]

    @classmethod
    def of(cls, addresses: list[str], domains: list[str]) -> "VerifiedSenders":
        """From lists in any case."""
        return cls(frozenset(map(str.lower, addresses)), frozenset(map(str.lower, domains)))

    def allow(self, address: str) -> bool:
        """Whether the provider takes an email from it."""
        address = address.lower()
        return address in self.addresses or address.rpartition("@")[2] in self.domains

    def named(self) -> str:
        """The first of them, for people."""
        names = [*sorted(self.addresses)]
        names += [f"any address of {domain}" for domain in sorted(self.domains)]
        if not names:
            return "None is verified yet; verify one at the provider."
        more = len(names) - NAMED_SENDERS_MAX
        rest = f" and {more:,} more" if more > 0 else ""
        return f"Verified: {', '.join(names[:NAMED_SENDERS_MAX])}{rest}."


def unverified_senders(
    content: EmailContent, verified: VerifiedSenders | None, *, than: EmailContent | None = None
) -> list[Violation]:
    """From and Reply-to that the provider would not take; `verified` None: nothing is known of them.

    `than`: only those that differ from this content's.
    """
    if verified is None:
        return []
    return [
        Violation(
            f"campaign.email.{field}.address",
            "SENDER_NOT_VERIFIED",
            f"The provider has not verified this sender. {verified.named()}",
        )
        for field, address in _senders(content)
        if (than is None or (field, address) not in _senders(than)) and not verified.allow(address)
    ]


def _senders(content: EmailContent) -> Iterator[tuple[str, str]]:
    for field, sender in (("from", content.from_), ("reply_to", content.reply_to)):
        if sender is not None:
            yield field, sender.address

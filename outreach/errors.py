"""The one error that crosses rooms: a reason of the public catalogue, a sentence for people, the fields at fault."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks one rule.

    `field` is the path in the request (`campaign.sms.body`), `reason` a name of ErrorReason, `text` says the rule and
    what to do. No personal data in any of them.
    """

    field: str
    reason: str
    text: str


class OutreachError(Exception):
    """A refused call. `reason` is a name of `outreach.v1.ErrorReason` without its prefix.

    The gRPC status of each reason is in `outreach.rpc.errors`; the text may be shown to the caller as it is.
    """

    def __init__(
        self,
        reason: str,
        text: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)

    @classmethod
    def invalid(cls, *violations: Violation) -> "OutreachError":
        """INVALID_REQUEST with one or more violations; the text is that of the first."""
        return cls("INVALID_REQUEST", violations[0].text, violations=violations)

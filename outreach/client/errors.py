"""What a refused or failed call becomes in a caller's program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc

from outreach.errors import OutreachError, Violation
from outreach.rpc.errors import from_status

# For failures that never reached our code; gRPC's own texts speak of sockets.
_TRANSPORT_TEXTS: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "The service can't be reached.",
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        "The service did not answer in time. The call may have taken effect; repeat it with the"
        " same request id."
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        "The service does not know this call: it is older than this client."
    ),
}


class CallError(OutreachError):
    """A call that the service refused, or that never got an answer.

    Attributes:
        code: the gRPC status; what programs branch on first.
        reason: a name of `outreach.v1.ErrorReason` without its prefix, or the status's name when
            the failure never reached the service (UNAVAILABLE, DEADLINE_EXCEEDED, …).
        metadata: what belongs to the reason, as in `running_campaign_id`.
        violations: the fields at fault.
    """

    def __init__(
        self,
        reason: str,
        text: str,
        *,
        code: grpc.StatusCode,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(reason, text, metadata=metadata, violations=violations)
        self.code = code

    @property
    def from_service(self) -> bool:
        """Whether the service itself refused; else the failure is of the way there."""
        return bool(self.metadata)  # the service always adds the request id


def call_error(error: grpc.aio.AioRpcError) -> CallError:
    """The error of a failed call, with reason, metadata and fields when the service sent them."""
    known = from_status(error)
    text = known.text or f"The call failed: {known.reason}."
    if not known.metadata:
        text = _TRANSPORT_TEXTS.get(error.code(), text)
    return CallError(
        known.reason,
        text,
        code=error.code(),
        metadata=known.metadata,
        violations=known.violations,
    )

"""What a refused or failed call becomes in a caller's program."""

from collections.abc import Mapping, Sequence

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from outreach.errors import OutreachError, Violation

# Texts for failures that never reached our code, so that carry no reason of the catalogue.
_TRANSPORT_REASONS: Mapping[grpc.StatusCode, tuple[str, str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        "UNAVAILABLE",
        "The service can't be reached. Check the address and that it runs, then try again.",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        "DEADLINE_EXCEEDED",
        (
            "The service did not answer in time. The call may have taken effect; "
            "repeat it with the same request id."
        ),
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        "UNIMPLEMENTED",
        "The service does not know this call: its version is older than this client's.",
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


def call_error(error: grpc.aio.AioRpcError) -> CallError:
    """The error of a failed call, with reason, metadata and fields when the service sent them."""
    code = error.code()
    info, bad_request, message = _details(error)
    if info is None:
        fallback = (code.name, error.details() or f"The call failed: {code.name}.")
        reason, text = _TRANSPORT_REASONS.get(code, fallback)
        return CallError(reason, text, code=code)
    violations = [Violation(v.field, v.reason, v.description) for v in bad_request.field_violations]
    return CallError(
        info.reason, message, code=code, metadata=dict(info.metadata), violations=violations
    )


def _details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, error_details_pb2.BadRequest, str]:
    """ErrorInfo, BadRequest and text of the `google.rpc.Status` in the trailers."""
    info: error_details_pb2.ErrorInfo | None = None
    bad_request = error_details_pb2.BadRequest()
    try:
        # An AioRpcError has the three methods of a call that are read here.
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:  # the trailers contradict the status line: a proxy's, not ours
        status = None
    if status is None:
        return None, bad_request, ""
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            detail.Unpack(bad_request)
    return info, bad_request, status.message

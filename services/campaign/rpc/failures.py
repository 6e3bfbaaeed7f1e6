"""FailureCatalogueService."""

from outreach.failures.catalogue import REASONS, provider_codes
from outreach.v1 import failure_catalogue_pb2, failure_catalogue_pb2_grpc, failure_reason_pb2


def catalogue() -> failure_catalogue_pb2.ListFailureReasonsResponse:
    """Every reason with its texts and codes."""
    infos = {
        reason: failure_catalogue_pb2.FailureReasonInfo(
            reason=failure_reason_pb2.FailureReason.ValueType(reason),
            text=told.text,
            advice=told.advice,
            retryable=told.retryable,
        )
        for reason, told in sorted(REASONS.items())
    }
    for reason, provider, code in provider_codes():
        infos[reason].provider_codes.add(provider=provider, code=code)
    return failure_catalogue_pb2.ListFailureReasonsResponse(reasons=infos.values())


class FailureCatalogueServicer(failure_catalogue_pb2_grpc.FailureCatalogueServiceServicer):
    """The same answer for everybody. See failure_catalogue.proto."""

    async def ListFailureReasons(
        self, request: failure_catalogue_pb2.ListFailureReasonsRequest, context: object
    ) -> failure_catalogue_pb2.ListFailureReasonsResponse:
        return catalogue()

"""The calls of `outreach.v1.FailureCatalogueService`."""

from __future__ import annotations

from functools import cached_property

from outreach.client.connection import Connection
from outreach.v1 import failure_catalogue_pb2, failure_catalogue_pb2_grpc


class FailureCalls(Connection):
    """Why messages fail. Every call raises `CallError` (`failure_catalogue.proto`)."""

    async def list_failure_reasons(self) -> failure_catalogue_pb2.ListFailureReasonsResponse:
        """Every reason: text, advice, whether a retry makes sense, the providers' codes."""
        request = failure_catalogue_pb2.ListFailureReasonsRequest()
        return await self._call(self._failures.ListFailureReasons, request)

    @cached_property
    def _failures(self) -> failure_catalogue_pb2_grpc.FailureCatalogueServiceAsyncStub:
        return failure_catalogue_pb2_grpc.FailureCatalogueServiceStub(self._channel)

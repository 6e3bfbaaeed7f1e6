"""Servers: limits, health, reflection, interceptors in their order, and an orderly end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc.aio
import structlog
from grpc_health.v1 import (  # type: ignore[import-untyped] # has no types
    health,
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped] # has no types

from outreach.rpc.interceptors.access_log import AccessLogInterceptor
from outreach.rpc.interceptors.deadline import DeadlineInterceptor
from outreach.rpc.interceptors.errors import ErrorInterceptor
from outreach.rpc.interceptors.request_id import RequestIdInterceptor
from outreach.rpc.options import server_options

_log = structlog.get_logger("outreach.rpc")

#: Services that answer without a credential.
OPEN_SERVICES = frozenset({health.SERVICE_NAME, reflection.SERVICE_NAME})
#: Calls served at the same time; more are refused with RESOURCE_EXHAUSTED.
CALLS_MAX = 4_000


@dataclass(frozen=True, slots=True)
class Service:
    """A servicer with its full name and the generated function that adds it to a server."""

    name: str
    add_to: Callable[[grpc.aio.Server], None]


class RpcServer:
    """One listening port.

    `authentication` is the innermost interceptor; around it, from the outside: request id, access
    log, errors, deadline.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        services: Sequence[Service],
        authentication: grpc.aio.ServerInterceptor,
        deadline: DeadlineInterceptor | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._services = services
        self._interceptors = (
            RequestIdInterceptor(),
            AccessLogInterceptor(quiet_services=OPEN_SERVICES),
            ErrorInterceptor(),
            deadline or DeadlineInterceptor(),
            authentication,
        )
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Listen; gives the port (0 asks for any free one). OSError when it is taken."""
        server = grpc.aio.server(
            interceptors=self._interceptors,
            options=server_options(),
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        names = [service.name for service in self._services]
        for service in self._services:
            service.add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection([*names, *sorted(OPEN_SERVICES)], server)
        await self.set_serving(serving=True)
        try:
            port = server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise OSError(f"can't listen on {self._host}:{self._port}") from error
        self._server = server  # from here on `drain` ends it, also when starting is cut short
        await server.start()
        _log.info("listening", host=self._host, port=port, services=names)
        return port

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service says, for the server and each service."""
        kind = health_pb2.HealthCheckResponse
        status = kind.SERVING if serving else kind.NOT_SERVING
        for name in ("", *(service.name for service in self._services)):
            await self._health.set(name, status)

    async def drain(self, *, end_streams: Callable[[], None], grace_seconds: float) -> None:
        """Health off, let streams end themselves, then stop within `grace_seconds`.

        An open stream would hold `stop` for its full grace; `end_streams` makes the servicers end
        theirs with UNAVAILABLE and the token to go on from.
        """
        await self._health.enter_graceful_shutdown()
        end_streams()
        if self._server is not None:
            await self._server.stop(grace_seconds)

"""The command that the campaign container's health check runs."""

import asyncio

import grpc.aio
import pytest
from grpc_health.v1 import (  # type: ignore[import-untyped] # has no types
    health,
    health_pb2,
    health_pb2_grpc,
)

from outreach.rpc import health_check


async def _main(*arguments: str) -> int:
    return await asyncio.to_thread(health_check.main, [*arguments, "--timeout-seconds", "2"])


async def test_it_ends_with_0_only_when_every_server_is_serving(
    capsys: pytest.CaptureFixture[str],
) -> None:
    servicer, server = health.aio.HealthServicer(), grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    try:
        assert await _main(f"127.0.0.1:{port}") == 0
        assert await _main(f"127.0.0.1:{port}", "127.0.0.1:1") == 1
        assert "127.0.0.1:1\n" in capsys.readouterr().err
        await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await _main(f"127.0.0.1:{port}") == 1
    finally:
        await server.stop(None)

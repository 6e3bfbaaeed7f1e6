"""`python -m outreach.rpc.health_check host:port …`: ends with 0 when every server says SERVING, else 1.

For container health checks; asks the standard gRPC health service, which needs no credential.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped] # has no types

from outreach.rpc.channel import create_channel


async def serving(address: str, *, timeout_seconds: float) -> bool:
    """Whether the server at `host:port` says SERVING within the time."""
    channel = create_channel(address)
    try:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
    except grpc.aio.AioRpcError:
        return False
    finally:
        await channel.close()
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _unhealthy(addresses: Sequence[str], timeout_seconds: float) -> list[str]:
    answers = await asyncio.gather(
        *(serving(address, timeout_seconds=timeout_seconds) for address in addresses)
    )
    return [address for address, healthy in zip(addresses, answers, strict=True) if not healthy]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; addresses that do not serve are named on stderr."""
    parser = argparse.ArgumentParser(prog="outreach.rpc.health_check", description=__doc__)
    parser.add_argument("addresses", nargs="+", metavar="host:port")
    parser.add_argument("--timeout-seconds", type=float, default=3.0)
    options = parser.parse_args(arguments)
    unhealthy = asyncio.run(_unhealthy(options.addresses, options.timeout_seconds))
    for address in unhealthy:
        sys.stderr.write(f"not serving: {address}\n")
    return 1 if unhealthy else 0


if __name__ == "__main__":
    sys.exit(main())

"""Servers and their interceptors, around a small service of every kind of call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped] # has no types

from outreach.errors import OutreachError
from outreach.rpc.call import Caller, current_call, current_caller
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.errors import REQUEST_ID_KEY, from_status
from outreach.rpc.interceptors.authentication import AuthenticationInterceptor
from outreach.rpc.interceptors.deadline import DeadlineInterceptor
from outreach.rpc.server import OPEN_SERVICES, RpcServer, Service
from outreach.vocabulary import Role
from tests.tcp_cuts import CuttableRelay
from tests.waiting import eventually

ORGANISATION = UUID(int=7)
KEY = bearer("the key")

Behaviour = Callable[[], Awaitable[bytes]]


class Double:
    """A service with one method of each kind, each doing what a test says."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = self.echo
        self.lookups = 0
        self.caller: Caller | None = Caller(ORGANISATION, Role.CAMPAIGNER, "label")
        self.draining = asyncio.Event()

    async def echo(self) -> bytes:
        caller, call = current_caller(), current_call()
        return f"{caller.organisation_id} {caller.key_label} {call.request_id}".encode()

    async def lookup(self, _key_hash: bytes) -> Caller | None:
        self.lookups += 1
        return self.caller

    def add_to(self, server: grpc.aio.Server) -> None:
        async def answer(_request: Any, _context: Any) -> bytes:
            return await self.behaviour()

        async def stream(_request: Any, _context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            yield await self.behaviour()

        async def written(_request: Any, context: Any) -> None:
            await context.write(b"first")
            await context.write(await self.behaviour())

        handlers: dict[str, Any] = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(answer),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(stream),
            "Written": grpc.unary_stream_rpc_method_handler(written),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(answer),
            "StreamStream": grpc.stream_stream_rpc_method_handler(stream),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))


KINDS = ("UnaryUnary", "UnaryStream", "Written", "StreamUnary", "StreamStream")


class Rig:
    """The double behind a real server, and a channel to it."""

    def __init__(self, double: Double, server: RpcServer, port: int) -> None:
        self.double = double
        self.server = server
        self.port = port
        self.channel = create_channel(f"127.0.0.1:{port}")

    async def call(self, kind: str, metadata: Any = KEY, timeout_seconds: float = 60) -> Any:
        """The last answer of a call, and its trailing metadata."""
        path = f"/t.T/{kind}"
        request: Any = b"x"
        method: Any = getattr(
            self.channel,
            {
                "UnaryUnary": "unary_unary",
                "UnaryStream": "unary_stream",
                "Written": "unary_stream",
                "StreamUnary": "stream_unary",
                "StreamStream": "stream_stream",
            }[kind],
        )
        if kind.startswith("Stream"):
            request = iter([b"x"])
        call = method(path)(request, metadata=metadata, timeout=timeout_seconds)
        answer = None
        if kind.endswith("Unary"):
            answer = await call
        else:
            async for received in call:
                answer = received
        return answer, dict(await call.trailing_metadata())

    async def refusal(self, kind: str, **arguments: Any) -> OutreachError:
        with pytest.raises(grpc.aio.AioRpcError) as info:
            await self.call(kind, **arguments)
        error = from_status(info.value)
        trailing = info.value.trailing_metadata()
        assert trailing is not None
        assert trailing[REQUEST_ID_KEY] == error.metadata["request_id"]
        return error


@asynccontextmanager
async def _rig(*, unary_seconds_max: float = 60.0) -> AsyncIterator[Rig]:
    double = Double()
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        services=[Service("t.T", double.add_to)],
        authentication=AuthenticationInterceptor(
            double.lookup,
            roles_allowed=lambda _method: {Role.CAMPAIGNER},
            open_services=OPEN_SERVICES,
        ),
        deadline=DeadlineInterceptor(method_seconds={"/t.T/UnaryUnary": unary_seconds_max}),
    )
    running = Rig(double, server, await server.start())
    try:
        yield running
    finally:
        await running.channel.close()
        await server.drain(end_streams=lambda: None, grace_seconds=0.1)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with _rig() as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_knows_its_caller_and_its_request_id(rig: Rig, kind: str) -> None:
    answer, trailing = await rig.call(kind, metadata=(*KEY, (REQUEST_ID_KEY, "mine-1")))
    assert answer == f"{ORGANISATION} label mine-1".encode()
    assert trailing[REQUEST_ID_KEY] == "mine-1"


async def test_a_request_id_that_could_forge_a_log_line_is_replaced(rig: Rig) -> None:
    _, trailing = await rig.call("UnaryUnary", metadata=(*KEY, (REQUEST_ID_KEY, 'a" "b":1')))
    assert UUID(trailing[REQUEST_ID_KEY]).version == 7


@pytest.mark.parametrize("kind", KINDS)
async def test_a_catalogued_error_arrives_whole(rig: Rig, kind: str) -> None:
    async def fail() -> bytes:
        raise OutreachError("CHANNEL_BUSY", "Busy.", metadata={"running_campaign_id": "c"})

    rig.double.behaviour = fail
    error = await rig.refusal(kind)
    assert (error.reason, error.text) == ("CHANNEL_BUSY", "Busy.")
    assert error.metadata["running_campaign_id"] == "c"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [RuntimeError("inner +41791234567"), KeyError("inner")])
async def test_an_unknown_error_is_internal_and_says_nothing_inner(
    rig: Rig, kind: str, fault: Exception
) -> None:
    async def fail() -> bytes:
        raise fault

    rig.double.behaviour = fail
    error = await rig.refusal(kind)
    assert error.reason == "INTERNAL"
    assert "inner" not in str(error)


async def test_a_reason_outside_of_the_catalogue_is_internal(rig: Rig) -> None:
    async def fail() -> bytes:
        raise OutreachError("NONSENSE", "inner")

    rig.double.behaviour = fail
    error = await rig.refusal("UnaryUnary")
    assert error.reason == "INTERNAL"
    assert "inner" not in error.text


@pytest.mark.parametrize(
    "fault",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.ConnectionDoesNotExistError("connection was closed"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.AdminShutdownError("terminating"),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.DeadlockDetectedError("deadlock"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_database_that_is_away_is_unavailable(rig: Rig, fault: Exception) -> None:
    async def fail() -> bytes:
        raise fault

    rig.double.behaviour = fail
    assert (await rig.refusal("UnaryUnary")).reason == "STORE_UNAVAILABLE"


async def test_a_statement_that_is_wrong_is_our_fault(rig: Rig) -> None:
    async def fail() -> bytes:
        raise asyncpg.UndefinedColumnError("inner")

    rig.double.behaviour = fail
    assert (await rig.refusal("UnaryUnary")).reason == "INTERNAL"


async def test_a_unary_call_ends_at_our_limit_and_a_stream_does_not() -> None:
    entered = asyncio.Event()

    async def wait() -> bytes:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with _rig(unary_seconds_max=1.0) as rig:
        rig.double.behaviour = wait
        assert (await rig.refusal("UnaryUnary")).reason == "DEADLINE_EXCEEDED"
        assert entered.is_set()
        released = asyncio.Event()

        async def released_later() -> bytes:
            await released.wait()
            return b"done"

        rig.double.behaviour = released_later
        asyncio.get_running_loop().call_later(1.5, released.set)
        assert (await rig.call("UnaryStream"))[0] == b"done"


async def test_a_key_is_looked_up_once_and_an_unknown_one_each_time(rig: Rig) -> None:
    for _ in range(3):
        await rig.call("UnaryUnary")
    assert rig.double.lookups == 1
    rig.double.caller = None
    for _ in range(2):
        error = await rig.refusal("UnaryUnary", metadata=bearer("another"))
        assert error.reason == "CREDENTIAL_INVALID"
    assert rig.double.lookups == 3


async def test_a_role_that_is_not_allowed_is_refused(rig: Rig) -> None:
    rig.double.caller = Caller(ORGANISATION, Role.OPERATIONS, "label")
    assert (await rig.refusal("StreamStream")).reason == "ROLE_NOT_ALLOWED"


async def test_one_line_a_call_without_its_content(rig: Rig) -> None:
    with structlog.testing.capture_logs() as lines:
        await rig.call("UnaryUnary")
        await rig.refusal("UnaryUnary", metadata=())
    calls = [line for line in lines if line["event"] == "call"]
    assert [(line["method"], line["outcome"]) for line in calls] == [
        ("/t.T/UnaryUnary", "OK"),
        ("/t.T/UnaryUnary", "CREDENTIAL_MISSING"),
    ]
    assert calls[0]["organisation_id"] == str(ORGANISATION)
    assert "the key" not in repr(lines)


async def test_a_client_that_goes_away_cancels_its_handler(rig: Rig) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> bytes:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    rig.double.behaviour = wait
    method: Any = rig.channel.unary_stream("/t.T/UnaryStream")
    call = method(b"x", metadata=KEY)
    await call.read()
    await entered.wait()
    call.cancel()
    await asyncio.wait_for(cancelled.wait(), 60)


async def test_draining_turns_health_off_and_ends_streams() -> None:
    async with _rig() as rig:
        health: Any = health_pb2_grpc.HealthStub(rig.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

        async def until_draining() -> bytes:
            await rig.double.draining.wait()
            raise OutreachError("SERVER_DRAINING", "Call again.")

        rig.double.behaviour = until_draining
        stream = asyncio.create_task(rig.refusal("UnaryStream"))
        await eventually(lambda: rig.double.lookups == 1)
        drained = asyncio.create_task(
            rig.server.drain(end_streams=rig.double.draining.set, grace_seconds=120)
        )
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()  # else it would take the whole grace
        assert (await stream).reason == "SERVER_DRAINING"
        await asyncio.wait_for(drained, 60)


async def test_health_follows_what_the_service_says(rig: Rig) -> None:
    health: Any = health_pb2_grpc.HealthStub(rig.channel)
    for serving, status in ((False, "NOT_SERVING"), (True, "SERVING")):
        await rig.server.set_serving(serving=serving)
        for name in ("", "t.T"):
            request = health_pb2.HealthCheckRequest(service=name)
            answer = await health.Check(request, timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.ServingStatus.Value(status)


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with _rig() as rig:
        taken = rig.port
        other = RpcServer(
            host="127.0.0.1",
            port=taken,
            services=[],
            authentication=AuthenticationInterceptor(
                rig.double.lookup, roles_allowed=lambda _m: (), open_services=OPEN_SERVICES
            ),
        )
        with pytest.raises(OSError, match=str(taken)):
            await other.start()


async def test_a_slow_line_has_time_to_connect() -> None:
    """As a busy service has; else it is tried again and again, and never reached."""
    async with _rig() as rig, CuttableRelay.to(f"127.0.0.1:{rig.port}", first_seconds=2) as relay:
        channel = create_channel(relay.address)
        try:
            await asyncio.wait_for(channel.channel_ready(), 60)
        finally:
            await channel.close()

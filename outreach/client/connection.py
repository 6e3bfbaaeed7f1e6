"""One channel to the public API: deadlines, repeated calls, and errors, for all calls alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar
from uuid import uuid4

import grpc
import stamina
from google.protobuf.message import Message

from outreach.client.errors import CallError, call_error
from outreach.client.sizes import check_size
from outreach.rpc.channel import bearer, create_channel
from outreach.rpc.options import channel_options

_TLS_PREFIX = "https://"
#: Where services/export listens unless told otherwise.
EXPORT_PORT = 50053
Request = TypeVar("Request", bound=Message)
Request_contra = TypeVar("Request_contra", contravariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long calls may take. All values are seconds.

    Attributes:
        call_seconds: one try of a call with one answer.
        estimate_seconds: one try of an estimate, which reads every contact.
        retry_messages_seconds: one try of a retry, which may queue every message again.
        erase_seconds: one try of an erasure, which goes through every campaign that has the person.
        test_send_seconds: one try of a test send, which waits up to 20 s for its messages.
        transfer_seconds: one try of an upload, an import or a download.
        retry_seconds_max: after this a call that finds the service unavailable is given up.
        silence_seconds_max: a watch that heard nothing for so long connects anew; the service
            sends a heartbeat every 15 s.
    """

    call_seconds: float = 15.0
    estimate_seconds: float = 120.0
    retry_messages_seconds: float = 120.0
    erase_seconds: float = 120.0
    test_send_seconds: float = 30.0
    transfer_seconds: float = 900.0
    retry_seconds_max: float = 30.0
    silence_seconds_max: float = 40.0


class _UnaryCall(Protocol[Request_contra, Answer_co]):
    def __call__(
        self,
        request: Request_contra,
        /,
        *,
        timeout: float | None,
        metadata: tuple[tuple[str, str], ...],
    ) -> Awaitable[Answer_co]: ...


def new_request_id() -> str:
    """A `request_id` for one mutating call; the client's own repeats of that call reuse it."""
    return str(uuid4())


def unavailable(error: Exception) -> bool:
    """Whether to try again: the service could not be reached, or said that it can't now."""
    return isinstance(error, CallError) and error.code is grpc.StatusCode.UNAVAILABLE


class Connection:
    """The channel and the credential; the base of the client's groups of calls.

    Args:
        address: `host:port`; `https://host:port` speaks TLS with the system's root certificates.
        api_key: the organisation's key; sent as `authorization: Bearer` with every call.
        timeouts: how long calls may take.
        channel_credentials: TLS with other certificates.
        export_address: `host:port` of the export service. By default port 50053 of the same host;
            with `https://` the same address, where a proxy leads each call to its service.
    """

    def __init__(
        self,
        address: str,
        api_key: str,
        *,
        timeouts: Timeouts | None = None,
        channel_credentials: grpc.ChannelCredentials | None = None,
        export_address: str | None = None,
    ) -> None:
        self.address = address
        self.export_address = export_address or default_export_address(address)
        self.timeouts = timeouts or Timeouts()
        self._metadata = bearer(api_key)
        self._channel_credentials = channel_credentials
        self._channel = self._open_channel(self.address)
        self._export_channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channels; calls that still run end with CANCELLED."""
        await self._channel.close()
        if self._export_channel is not None:
            await self._export_channel.close()

    def _open_channel(self, address: str) -> grpc.aio.Channel:
        credentials = self._channel_credentials
        target = address.removeprefix(_TLS_PREFIX)
        if credentials is None and target != address:
            credentials = grpc.ssl_channel_credentials()
        return _open_channel(target, credentials)

    async def _call(
        self,
        method: _UnaryCall[Request, Answer],
        request: Request,
        *,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """One call with one answer; repeated with the same request while unavailable."""
        check_size(request)
        timeout = timeout_seconds or self.timeouts.call_seconds

        async def once() -> Answer:
            try:
                return await method(request, timeout=timeout, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                raise call_error(error) from error

        return await self._repeat(once)

    async def _repeat(self, once: Callable[[], Awaitable[Value]]) -> Value:
        """Await `once()` again while it fails with UNAVAILABLE, with jitter, up to the limit."""
        async for attempt in stamina.retry_context(
            on=unavailable,
            attempts=None,
            timeout=self.timeouts.retry_seconds_max,
            wait_initial=0.1,
            wait_max=3.0,
            wait_jitter=0.5,
        ):
            with attempt:
                return await once()
        raise AssertionError("stamina ends with a value or an error")


def default_export_address(address: str) -> str:
    """Where exports are when only the campaign service's address is given (see `Connection`)."""
    if address.startswith(_TLS_PREFIX):
        return address
    host = address.rpartition(":")[0] or address
    return f"{host}:{EXPORT_PORT}"


async def heard(
    responses: AsyncIterator[Value], *, silence_seconds_max: float
) -> AsyncIterator[Value]:
    """The responses of a stream; `TimeoutError` after too long a silence."""
    while True:
        async with asyncio.timeout(silence_seconds_max):
            try:
                response = await anext(responses)
            except StopAsyncIteration:
                return
        yield response


def _open_channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return create_channel(target)
    return grpc.aio.secure_channel(target, credentials, options=channel_options())

"""One way to put code around a call of any of gRPC's four kinds."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, NamedTuple, TypeAlias

import grpc
import grpc.aio

Context = grpc.aio.ServicerContext[Any, Any]
# Generic for the type checker only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]


class AroundInterceptor(grpc.aio.ServerInterceptor):
    """An interceptor that is one context manager, entered before the handler and left after it.

    The handler and the manager run in the same task. For a streaming answer the manager stays open
    until the stream ends.
    """

    @abstractmethod
    def around(self, call: Incoming) -> Around:
        """What to enter for this call."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return _wrapped(handler, handler_call_details.method, self.around)


Around = AbstractAsyncContextManager[None]


class Incoming(NamedTuple):
    """A call that is about to be served."""

    #: `/package.Service/Method`.
    method: str
    handler: Handler
    context: Context


def _wrapped(handler: Handler, method: str, around: Callable[[Incoming], Around]) -> Handler:
    """The same handler inside `around`."""
    inner: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )

    async def answering(request: Any, context: Context) -> Any:
        async with around(Incoming(method, handler, context)):
            return await inner(request, context)

    async def streaming(request: Any, context: Context) -> AsyncIterator[Any]:
        call = Incoming(method, handler, context)
        async with around(call), aclosing(inner(request, context)) as answers:
            async for answer in answers:
                yield answer

    # A streaming handler may also be a coroutine that calls context.write (grpc's health service).
    serve: Any = streaming if inspect.isasyncgenfunction(inner) else answering
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    wrapped: Handler = make(serve, handler.request_deserializer, handler.response_serializer)
    return wrapped


def metadata_value(context: Context, key: str) -> str | None:
    """The first text value of a metadata key; None when there is none."""
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return None


def service_of(method: str) -> str:
    """`outreach.v1.CampaignService` of `/outreach.v1.CampaignService/GetCampaign`."""
    return method.rpartition("/")[0].removeprefix("/")

"""The call that is being served: who calls, and under which request id."""

from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from outreach.vocabulary import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who holds the credential of a call. The organisation comes from here alone."""

    organisation_id: UUID
    role: Role
    #: The name that the organisation gave to the API key; written into acceptances and logs.
    key_label: str


@dataclass(slots=True)
class Call:
    """What the interceptors learn about one call."""

    method: str
    request_id: str
    caller: Caller | None = None
    #: Why it was refused; None: it was not.
    reason: str | None = None


# Each call is served in a task of its own, so the variable ends with the call.
_CALL: ContextVar[Call | None] = ContextVar("outreach_rpc_call", default=None)


def begin_call(call: Call) -> None:
    """Make `call` the current one of this task."""
    _CALL.set(call)


def current_call() -> Call:
    """The call that this task serves; RuntimeError outside of one."""
    call = _CALL.get()
    if call is None:
        raise RuntimeError("no call is being served in this task")
    return call


def current_caller() -> Caller:
    """Who calls; RuntimeError on a server without authentication."""
    caller = current_call().caller
    if caller is None:
        raise RuntimeError("this call is not authenticated")
    return caller

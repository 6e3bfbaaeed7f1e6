"""Checks of the SendGrid accounts: may the key send, and who may be the sender.

The campaign service gets to know it by ReportAccountCheck, at the start and every few minutes. What
can't be found out now is not reported: then what was known stays.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import grpc.aio
import structlog

from outreach.internal.v1 import delivery_pb2, delivery_pb2_grpc
from outreach.sending.contents import CALL_SECONDS_MAX, NO_ACCOUNT_CODES, Accounts
from outreach.sending.stream import Metadata
from outreach.v1 import channel_pb2
from services.sender_email.sendgrid_api import SendGridApi, json_of

SCOPES_PATH: Final = "/v3/scopes"
VERIFIED_SENDERS_PATH: Final = "/v3/verified_senders"
DOMAINS_PATH: Final = "/v3/whitelabel/domains"
SEND_SCOPE: Final = "mail.send"

INTERVAL_SECONDS: Final = 300.0
#: Accounts that could not be checked are tried again after this, then after twice as long each time.
RETRY_SECONDS_MIN: Final = 1.0
#: Accounts checked at once.
CONCURRENCY_MAX: Final = 4
#: Asked for on one page: what SendGrid gives when nothing is asked for.
PAGE_MAX: Final = 50
#: An account has at most 3,000 authenticated domains.
PAGES_MAX: Final = 100
#: Of addresses, and of domains, that are reported.
SENDERS_MAX: Final = 5_000
NAME_CHARACTERS_MAX: Final = 254

#: What people are told.
KEY_REFUSED: Final = "SendGrid refuses the API key. Give the email channel a valid one."
SEND_NOT_ALLOWED: Final = (
    "The API key may not send email: SendGrid's permission mail.send (Mail Send) is missing."
)

_log = structlog.get_logger(__name__)


class _Unknown(Exception):
    """It can't be found out now. Says the cause for the log."""


@dataclass(frozen=True, slots=True)
class _Senders:
    """Who may send; addresses and domains in lower case."""

    addresses: tuple[str, ...]
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """What an account is like. `senders` is None where the key may not read them."""

    fault: str
    senders: _Senders | None


class AccountChecks:
    """Checks all accounts again and again."""

    def __init__(
        self,
        *,
        channel: grpc.aio.Channel,
        metadata: Metadata,
        accounts: Accounts,
        api: SendGridApi,
        interval_seconds: float = INTERVAL_SECONDS,
        retry_seconds_min: float = RETRY_SECONDS_MIN,
    ) -> None:
        self._stub = delivery_pb2_grpc.DeliveryServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        self._metadata = metadata
        self._accounts = accounts
        self._api = api
        self._interval_seconds = interval_seconds
        self._retry_seconds_min = retry_seconds_min
        self._turn = asyncio.Semaphore(CONCURRENCY_MAX)

    async def run(self) -> None:
        """Check for ever."""
        while True:
            next_round_seconds = time.monotonic() + self._interval_seconds
            pause = self._retry_seconds_min
            left = await self._check_all()
            while left != [] and time.monotonic() + pause < next_round_seconds:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(self._interval_seconds, pause * 2)
                left = await (self._check_all() if left is None else self._check(left))
            await asyncio.sleep(max(0.0, next_round_seconds - time.monotonic()))

    async def _check_all(self) -> list[UUID] | None:
        """The organisations that could not be checked; None: nobody says which there are."""
        request = delivery_pb2.ListProviderAccountsRequest(channel=channel_pb2.CHANNEL_EMAIL)
        try:
            listed = await self._stub.ListProviderAccounts(
                request, metadata=self._metadata, timeout=CALL_SECONDS_MAX
            )
        except grpc.aio.AioRpcError as error:
            _log.warning("accounts_not_listed", error=error.code().name)
            return None
        return await self._check([UUID(one) for one in listed.organisation_ids])

    async def _check(self, organisation_ids: Iterable[UUID]) -> list[UUID]:
        """The organisations that could not be checked."""
        async with asyncio.TaskGroup() as tasks:
            checks = {one: tasks.create_task(self._check_one(one)) for one in organisation_ids}
        failed = [one for one, check in checks.items() if not check.result()]
        _log.info("accounts_checked", accounts=len(checks), failed=len(failed))
        return failed

    async def _check_one(self, organisation_id: UUID) -> bool:
        """Whether it could be checked and reported."""
        async with self._turn:
            try:
                self._accounts.forget(organisation_id)  # the key as it is now
                account = (await self._accounts.get(organisation_id)).sendgrid
                await self._report(organisation_id, await self._found_out(account.api_key))
            except _Unknown as unknown:
                cause = str(unknown)
            except grpc.aio.AioRpcError as error:
                if error.code() in NO_ACCOUNT_CODES:
                    return True  # it was taken away meanwhile
                cause = error.code().name
            else:
                return True
            _log.warning("account_not_checked", organisation_id=str(organisation_id), cause=cause)
            return False

    async def _report(self, organisation_id: UUID, found: _Found) -> None:
        senders = found.senders
        await self._stub.ReportAccountCheck(
            delivery_pb2.ReportAccountCheckRequest(
                organisation_id=str(organisation_id),
                channel=channel_pb2.CHANNEL_EMAIL,
                sender_addresses=senders.addresses if senders else (),
                sender_domains=senders.domains if senders else (),
                fault=found.fault,
                senders_unknown=senders is None,
            ),
            metadata=self._metadata,
            timeout=CALL_SECONDS_MAX,
        )

    async def _found_out(self, api_key: str) -> _Found:
        """Raises _Unknown."""
        scopes = await self._get(api_key, SCOPES_PATH)
        if scopes is None:
            return _Found(KEY_REFUSED, None)
        may_send = SEND_SCOPE in _list_of(scopes, "scopes")
        senders = await self._senders(api_key)
        return _Found("" if may_send else SEND_NOT_ALLOWED, senders)

    async def _senders(self, api_key: str) -> _Senders | None:
        addresses = await self._listed(
            api_key,
            VERIFIED_SENDERS_PATH,
            lambda page: _list_of(page, "results"),
            lambda found: {"lastSeenID": max(found)},
        )
        domains = await self._listed(
            api_key,
            DOMAINS_PATH,
            _as_list,
            lambda found: {"offset": len(found)},
        )
        if addresses is None or domains is None:  # half of them would refuse the other half
            return None
        return _Senders(
            _names(one.get("from_email") for one in addresses if one.get("verified") is True),
            _names(one.get("domain") for one in domains if one.get("valid") is True),
        )

    async def _listed(
        self,
        api_key: str,
        path: str,
        items_of: Callable[[Any], list[Any]],
        after: Callable[[Mapping[int, Any]], Mapping[str, int]],
    ) -> list[Mapping[str, Any]] | None:
        """All of a list, page by page until one brings nothing new; None: the key may not read it."""
        found: dict[int, Mapping[str, Any]] = {}
        for _ in range(PAGES_MAX):
            page = await self._get(
                api_key, path, {"limit": PAGE_MAX, **(after(found) if found else {})}
            )
            if page is None:
                return None
            known = len(found)
            for item in items_of(page):
                if not isinstance(item, dict) or not isinstance(item.get("id"), int):
                    raise _Unknown(f"{path}: not a list")
                found[item["id"]] = item
            if len(found) == known:
                break
        return [*found.values()]

    async def _get(
        self, api_key: str, path: str, query: Mapping[str, str | int] | None = None
    ) -> Any | None:
        """The JSON of a resource; None when the key is refused. Raises _Unknown."""
        answer = await self._api.get(api_key, path, query)
        if answer is None:
            raise _Unknown(f"{path}: no answer")
        if answer.status in (401, 403):
            return None
        value = json_of(answer) if answer.status == 200 else None
        if value is None:
            raise _Unknown(f"{path}: HTTP {answer.status}")
        return value


def _list_of(value: Any, name: str) -> list[Any]:
    return _as_list(value.get(name) if isinstance(value, dict) else None)


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Unknown("not a list")
    return value


def _names(given: Iterable[Any]) -> tuple[str, ...]:
    """In lower case, each once, as many as can be reported."""
    names = {
        name.lower(): None
        for name in given
        if isinstance(name, str) and 0 < len(name) <= NAME_CHARACTERS_MAX
    }
    return tuple(names)[:SENDERS_MAX]

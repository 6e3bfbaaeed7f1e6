"""Status callbacks: made when they are due, signed, retried as the callback's URL asks."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from urllib.parse import quote_plus

from services.sandbox.due import DueQueue
from services.sandbox.fates import FINAL_STEP
from services.sandbox.knobs import Knobs
from services.sandbox.twilio.ledger import MessageLedger
from services.sandbox.twilio.retry_policy import retry_delay_seconds, retry_policy
from services.sandbox.twilio.signature import signature
from services.sandbox.twilio.validation import Account
from services.sandbox.webhooks import Failure, WebhookClient, WebhookFailed

API_VERSION = "2010-04-01"

_QUEUE_ITEMS_MAX = 1_024
_DONE_BATCH = 100


class SignedPoster:
    """Posts a form as Twilio does: signed, with the token that stays the same over its retries."""

    def __init__(self, auth_token: str, client: WebhookClient) -> None:
        self._auth_token = auth_token.encode()
        self._client = client

    async def post(self, url: str, fields: list[tuple[str, str]], token: str) -> int | Failure:
        """Status of the answer, or why there was none. Field names are unique and sorted."""
        address, _, fragment = url.partition("#")
        policy = retry_policy(fragment)
        # Most values are SIDs and words: quoting those would cost more than signing.
        body = "&".join(
            [
                f"{name}={value if value.isascii() and value.isalnum() else quote_plus(value)}"
                for name, value in fields
            ]
        )
        headers = (
            f"X-Twilio-Signature: {signature(self._auth_token, address, fields)}\r\n"
            f"I-Twilio-Idempotency-Token: {token}\r\nUser-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n"
        )
        try:
            return await self._client.post(
                address,
                headers,
                body.encode(),
                connect_timeout_seconds=policy.connect_timeout_seconds,
                read_timeout_seconds=policy.read_timeout_seconds,
            )
        except WebhookFailed as error:
            return error.failure


class CallbackDispatcher:
    """Makes the callbacks of the ledger's messages, also of those that a restart finds unfinished.

    Memory is bounded by what is accepted and not yet final: eight bytes a callback.
    """

    def __init__(
        self,
        ledger: MessageLedger,
        account: Account,
        poster: SignedPoster,
        knobs: Callable[[], Knobs],
        connections_max: int,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._poster = poster
        self._knobs = knobs
        self._connections_max = connections_max
        self._due = DueQueue()
        self._ready: asyncio.Queue[int] = asyncio.Queue(_QUEUE_ITEMS_MAX)
        self._done: list[int] = []
        self._generation = 0
        self.counts: Counter[str] = Counter()

    def schedule(self, number: int) -> None:
        """Make the message's callbacks when they are due."""
        for at, step in self._ledger.callbacks(number):
            self._due.add(at, _item(number, step, retries_made=0))

    def resume(self) -> None:
        """Go on after a restart: what is overdue is made at once, perhaps a second time."""
        for number in range(len(self._ledger)):
            if self._ledger.has_pending_callbacks(number):
                self.schedule(number)

    def forget(self) -> None:
        """Make none of the callbacks that are still due: the ledger was reset."""
        self._generation += 1
        self._due.clear()
        while not self._ready.empty():
            self._ready.get_nowait()
        self._done.clear()
        self.counts.clear()

    async def make_now(self, number: int) -> None:
        """Make the message's callbacks before returning (retries come later)."""
        for _, step in self._ledger.callbacks(number):
            await self._make(number, step, retries_made=0)

    async def run(self) -> None:
        """Make callbacks until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._due.run(self._ready))
                for _ in range(self._connections_max):
                    tasks.create_task(self._work())
        finally:
            self._note_done()

    async def _work(self) -> None:
        while True:
            item = await self._ready.get()
            await self._make(item >> 8, item >> 4 & 0xF, retries_made=item & 0xF)

    async def _make(self, number: int, step: int, retries_made: int) -> None:
        generation = self._generation
        contents = self._ledger.contents(number)
        url = contents.callback
        token = _idempotency_token(self._ledger.sid(number), step)
        outcome = await self._poster.post(url, self._fields(number, step, contents.sender), token)
        if generation != self._generation:
            return
        self.counts["made"] += 1
        if retry_policy(url.partition("#")[2]).allows(outcome, retries_made):
            wait_seconds = retry_delay_seconds(retries_made, self._knobs().callback_retry_seconds)
            item = _item(number, step, retries_made + 1)
            self._due.add(time.time() + wait_seconds, item)
            self.counts["retried"] += 1
            return
        answered = not isinstance(outcome, Failure) and outcome < 400
        self.counts["answered" if answered else "given_up"] += 1
        if self._ledger.callback_done(number):
            self._done.append(number)
            if len(self._done) >= _DONE_BATCH:
                self._note_done()

    def _note_done(self) -> None:
        if self._done:
            self._ledger.note_done(self._done)
            self._done = []

    def _fields(self, number: int, step: int, sender: str) -> list[tuple[str, str]]:
        # In the order of their names: the signature is made over them as they stand.
        status, code = self._ledger.step_status(number, step)
        sid = self._ledger.sid(number)
        fields = [("AccountSid", self._account.account_sid), ("ApiVersion", API_VERSION)]
        if code:
            fields.append(("ErrorCode", str(code)))
        fields += [
            ("From", sender),
            ("MessageSid", sid),
            ("MessageStatus", status),
        ]
        if self._ledger.with_service(number):
            fields.append(("MessagingServiceSid", self._account.messaging_service_sid))
        if step == FINAL_STEP and status != "failed":
            fields.append(("RawDlrDoneDate", time.strftime("%y%m%d%H%M", time.gmtime())))
        fields += [("SmsSid", sid), ("SmsStatus", status), ("To", self._ledger.to(number))]
        return fields


def _item(number: int, step: int, retries_made: int) -> int:
    return number << 8 | step << 4 | retries_made


def _idempotency_token(sid: str, step: int) -> str:
    digest = blake2b(f"{sid}{step}".encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"

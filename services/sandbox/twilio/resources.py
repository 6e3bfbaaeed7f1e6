"""The Message resource and its list, in the shape in which Twilio's API returns them."""

from datetime import UTC, date, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from services.sandbox.twilio.callbacks import API_VERSION
from services.sandbox.twilio.errors import refusal
from services.sandbox.twilio.ledger import MessageLedger
from services.sandbox.twilio.validation import Account

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000


@lru_cache(maxsize=4_096)
def _rfc2822(second: int) -> str:
    return formatdate(second, usegmt=False).replace("-0000", "+0000")


class MessageResources:
    """Renders messages of the ledger; all times are those of this process's wall clock."""

    def __init__(self, ledger: MessageLedger, account: Account) -> None:
        self._ledger = ledger
        self._account = account
        self.uri = f"/{API_VERSION}/Accounts/{account.account_sid}/Messages"

    def created(self, number: int, body: str, sender: str | None) -> dict[str, Any]:
        """The answer to a create: nothing has happened to the message yet."""
        first = "accepted" if self._ledger.with_service(number) else "queued"
        second = int(self._ledger.created(number))
        # A Messaging Service counts the segments and chooses the sender later.
        segments = 0 if first == "accepted" else self._ledger.segments(number)
        return self._resource(number, body, sender, first, 0, second, second, None, segments)

    def message(self, number: int, now: float) -> dict[str, Any]:
        """The message as it stands."""
        status, code = self._ledger.status(number, now)
        contents = self._ledger.contents(number)
        sent_at = self._ledger.sent_at(number)
        sent = int(sent_at) if sent_at is not None and sent_at <= now else None
        created = int(self._ledger.created(number))
        segments = self._ledger.segments(number)
        return self._resource(
            number, contents.body, contents.sender, status, code, created,
            max(created, sent or 0), sent, segments,
        )  # fmt: skip

    def _resource(
        self,
        number: int,
        body: str,
        sender: str | None,
        status: str,
        code: int,
        created: int,
        updated: int,
        sent: int | None,
        segments: int,
    ) -> dict[str, Any]:
        sid = self._ledger.sid(number)
        uri = f"{self.uri}/{sid}"
        with_service = self._ledger.with_service(number)
        return {
            "account_sid": self._account.account_sid,
            "api_version": API_VERSION,
            "body": body,
            "date_created": _rfc2822(created),
            "date_sent": None if sent is None else _rfc2822(sent),
            "date_updated": _rfc2822(updated),
            "direction": "outbound-api",
            "error_code": code or None,
            "error_message": None,
            "from": sender,
            "messaging_service_sid": self._account.messaging_service_sid if with_service else None,
            "num_media": "0",
            "num_segments": str(segments),
            "price": None,
            "price_unit": None,
            "sid": sid,
            "status": status,
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": self._ledger.to(number),
            "uri": f"{uri}.json",
        }

    def page(self, asked: dict[str, str], now: float, list_lag_seconds: float) -> dict[str, Any]:
        """A page of the list, newest first.

        Raises:
            TwilioError: the page size, the page token or a date is none.
        """
        query = _ListQuery(asked, self._ledger)
        horizon = now - list_lag_seconds
        numbers: list[int] = []
        more = False
        for number in self._ledger.newest_first(query.to, query.below):
            if number <= query.above:
                break
            if self._ledger.created(number) > horizon or not query.matches(number, now):
                continue
            if len(numbers) == query.page_size:
                more = True
                if query.above < 0:
                    break
                numbers.pop(0)  # the page before a message: those nearest to it
            numbers.append(number)
        start = query.page * query.page_size
        older = (more or query.above >= 0) and numbers
        return {
            "first_page_uri": self._page_uri(query, 0, ""),
            "end": start + max(len(numbers) - 1, 0),
            "next_page_uri": (
                self._page_uri(query, query.page + 1, f"PA{self._ledger.sid(numbers[-1])}")
                if older
                else None
            ),
            "previous_page_uri": (
                self._page_uri(query, query.page - 1, f"PB{self._ledger.sid(numbers[0])}")
                if query.page > 0 and numbers
                else None
            ),
            "page": query.page,
            "page_size": query.page_size,
            "start": start,
            "uri": self._page_uri(query, query.page, query.token),
            "messages": [self.message(number, now) for number in numbers],
        }

    def _page_uri(self, query: "_ListQuery", page: int, token: str) -> str:
        parameters = [*query.filters, ("PageSize", str(query.page_size)), ("Page", str(page))]
        if token:
            parameters.append(("PageToken", token))
        # `DateSent<` and its value are one text to Twilio: the sign is not encoded away.
        text = "&".join(f"{quote(name, safe='')}={quote(value)}" for name, value in parameters)
        return f"{self.uri}.json?{text}"


class _ListQuery:
    """What was asked of the list; `above` and `below` are the message numbers it lies between."""

    def __init__(self, asked: dict[str, str], ledger: MessageLedger) -> None:
        self._ledger = ledger
        names = ("To", "From", "DateSent", "DateSent<", "DateSent>")
        self.filters = [(name, asked[name]) for name in names if asked.get(name)]
        self.to = asked.get("To") or None
        self.page = _integer(asked, "Page", 0, 0, 1_000_000)
        self.page_size = _integer(asked, "PageSize", PAGE_SIZE_DEFAULT, 1, PAGE_SIZE_MAX)
        self.token = asked.get("PageToken", "")
        self.above, self.below = -1, len(ledger)
        if self.token:
            number = ledger.number_of(self.token[2:])
            if number is None or self.token[:2] not in ("PA", "PB"):
                raise refusal(20001, detail="PageToken")
            if self.token[:2] == "PA":
                self.below = number
            else:
                self.above = number
        self._from = asked.get("From") or None
        self._dates = [
            (name[8:], _day_or_time(asked[name]))
            for name, _ in self.filters
            if name.startswith("DateSent")
        ]

    def matches(self, number: int, now: float) -> bool:
        if self._from and self._ledger.contents(number).sender != self._from:
            return False
        if not self._dates:
            return True
        sent = self._ledger.sent_at(number)
        if sent is None or sent > now:
            return False
        return all(_compare(sent, sign, day_or_time) for sign, day_or_time in self._dates)


def _compare(sent: float, sign: str, bound: date | datetime) -> bool:
    moment = datetime.fromtimestamp(int(sent), UTC)
    # A bound without a time is a whole day; equality is always about the day.
    if isinstance(bound, datetime) and sign:
        difference = (moment - bound).total_seconds()
    else:
        day = bound.date() if isinstance(bound, datetime) else bound
        difference = (moment.date() - day).total_seconds()
    return difference <= 0 if sign == "<" else difference >= 0 if sign == ">" else difference == 0


def _day_or_time(text: str) -> date | datetime:
    try:
        if len(text) == 10:
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise refusal(20001, detail="DateSent") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _integer(asked: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = asked.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or not least <= int(text[:9]) <= most:
        raise refusal(20001, detail=name)
    return int(text)

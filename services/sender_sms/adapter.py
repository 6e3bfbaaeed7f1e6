"""Twilio as a provider: one create a message, the answer as an outcome, look-ups in its list."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote
from uuid import UUID

import orjson
from multidict import CIMultiDict, CIMultiDictProxy
from twilio.base.exceptions import TwilioRestException
from yarl import URL

from outreach.failures.twilio import BODY_TOO_LONG_CODE, Effect, rule_for
from outreach.internal.v1 import delivery_pb2
from outreach.sending.attempt_token import TokenKey
from outreach.sending.outcomes import (
    AccountRefused,
    Answer,
    Answered,
    AttemptOutcome,
    NotSent,
    Throttled,
)
from outreach.sending.provider import CampaignNotSendable
from outreach.sending.transport import AnswerLost, HttpAnswer, NothingLeft
from outreach.template.placeholders import (
    BoundTemplate,
    MalformedTemplate,
    UnknownPlaceholder,
    parse_template,
)
from outreach.template.segments import segments
from outreach.template.sms import is_sms_too_long
from outreach.v1 import campaign_pb2
from outreach.vocabulary import Channel, FailureReason, Outcome
from services.sender_sms.form import CreateForm, validity_seconds
from services.sender_sms.listing import (
    SEGMENTS_MAX,
    Listed,
    find_message,
    last_word,
    list_query,
    no_news,
)
from services.sender_sms.transport import TwilioTransport, basic_headers

CONCURRENCY_HEADER: Final = "Twilio-Concurrent-Requests"
#: Pages of the list that a look-up reads at most.
PAGES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class PreparedSms:
    """A campaign ready to send."""

    organisation_id: bytes
    campaign_id: bytes
    template: BoundTemplate
    skip_incomplete: bool
    form: CreateForm
    sender: str
    url: URL
    headers: CIMultiDict[str]


class TwilioProvider:
    """`outreach.sending.provider.Provider` for Twilio's Messages API."""

    def __init__(
        self,
        transport: TwilioTransport,
        token_key: TokenKey,
        *,
        api_url: str,
        webhook_url: str,
    ) -> None:
        self._transport = transport
        self._token_key = token_key
        self._api_url = api_url
        self._webhook_url = webhook_url

    @property
    def channel(self) -> Channel:
        return Channel.SMS

    @property
    def messages_per_request_max(self) -> int:
        return 1

    def prepare(
        self,
        content: delivery_pb2.CampaignContent,
        account: delivery_pb2.ProviderAccount,
        attachments: Sequence[bytes],
    ) -> PreparedSms:
        assert not attachments, "an SMS has none"
        twilio = account.twilio
        sender = content.sms.sender if content.sms.HasField("sender") else twilio.sender
        if sender.WhichOneof("sender") is None:
            raise CampaignNotSendable(FailureReason.SENDER_NOT_ALLOWED)
        try:
            template = parse_template(content.sms.body).bind(content.variable_names)
        except (MalformedTemplate, UnknownPlaceholder) as error:
            raise CampaignNotSendable(FailureReason.CONTENT_REJECTED) from error
        return PreparedSms(
            organisation_id=UUID(content.organisation_id).bytes,
            campaign_id=UUID(content.campaign_id).bytes,
            template=template,
            skip_incomplete=content.missing_variable_policy
            == campaign_pb2.MISSING_VARIABLE_POLICY_SKIP,
            form=CreateForm(
                sender=sender,
                webhook_url=self._webhook_url,
                validity_seconds=validity_seconds(content.sms, twilio),
            ),
            sender=sender.messaging_service_sid or getattr(sender, "from"),
            url=URL(
                f"{self._api_url}/2010-04-01/Accounts/{twilio.account_sid}/Messages.json",
                encoded=True,
            ),
            headers=basic_headers(twilio.account_sid, twilio.auth_token),
        )

    async def send(
        self,
        prepared: PreparedSms,
        messages: Sequence[delivery_pb2.ClaimedMessage],
        begin: Callable[[], None],
    ) -> Answer:
        (message,) = messages
        values = message.values
        body = prepared.template.render(values)
        refusal = _refused_text(prepared, values, body)
        if refusal is not None:
            return Answered([_rejected(message, *refusal)])
        token = self._token_key.sign_attempt(
            prepared.organisation_id, prepared.campaign_id, message.number, message.attempt
        )
        form = prepared.form.encode(to=message.recipient, token=token, body=body)
        try:
            answer = await self._transport.post(prepared.url, prepared.headers, form, begin)
        except NothingLeft as error:
            return NotSent(str(error))
        except AnswerLost as error:
            if error.status == 429:
                return Throttled()
            return _unknown(message)
        return read_answer(message, body, answer)

    async def look_up(
        self, prepared: PreparedSms, attempt: delivery_pb2.UnknownAttempt
    ) -> AttemptOutcome | None:
        if attempt.provider_message_id:
            return await self._fetch(prepared, attempt)
        message = attempt.message
        body = prepared.template.render(message.values)
        url = prepared.url.with_query(list_query(message.recipient))
        listed: list[Listed] = []
        for _ in range(PAGES_MAX):
            answer = await self._transport.get(url, prepared.headers)
            page = _page(answer)
            if page is None:
                return None
            listed += page[0]
            if not page[1]:
                break
            url = URL(self._api_url + page[1], encoded=True)
        return find_message(listed, attempt, body=body, sender=prepared.sender)

    async def _fetch(
        self, prepared: PreparedSms, attempt: delivery_pb2.UnknownAttempt
    ) -> AttemptOutcome | None:
        """Ask for an accepted message by Twilio's id of it."""
        name = quote(attempt.provider_message_id, safe="")
        url = URL(f"{prepared.url.parent}/Messages/{name}.json", encoded=True)
        answer = await self._transport.get(url, prepared.headers)
        if answer is not None and answer.status == 404:
            return no_news(attempt)  # of another account by now, or deleted there
        found = _message(answer)
        return None if found is None else last_word(found, attempt)


def _refused_text(
    prepared: PreparedSms, values: Sequence[str], body: str
) -> tuple[FailureReason, str] | None:
    """What we refuse ourselves, before any request."""
    if prepared.skip_incomplete and prepared.template.missing(values):
        return FailureReason.MISSING_VARIABLE, ""
    if is_sms_too_long(body):
        return FailureReason.CONTENT_REJECTED, BODY_TOO_LONG_CODE
    return None


def _rejected(
    message: delivery_pb2.ClaimedMessage, reason: FailureReason | None, code: str
) -> AttemptOutcome:
    return AttemptOutcome(
        message.number,
        message.attempt,
        Outcome.REJECTED,
        failure_reason=reason,
        provider_code=code,
    )


def _unknown(message: delivery_pb2.ClaimedMessage, code: str = "") -> Answered:
    return Answered(
        [AttemptOutcome(message.number, message.attempt, Outcome.UNKNOWN, provider_code=code)]
    )


def read_answer(message: delivery_pb2.ClaimedMessage, body: str, answer: HttpAnswer) -> Answer:
    """What Twilio's answer to a create means."""
    status = answer.status
    if status == 201:
        return _accepted(message, body, answer)
    concurrent = _concurrent_requests(answer.headers)
    if status == 429:
        return Throttled(concurrent)
    if not 400 <= status < 500:
        # a 5xx may stand before or after the create; anything else is not Twilio's protocol
        return _unknown(message, f"HTTP {status}")
    error = parse_error(status, answer.body)
    code = str(error.code) if error.code else f"HTTP {status}"
    rule = rule_for(code)
    if rule.effect is Effect.THROTTLE:
        return Throttled(concurrent)
    if rule.effect is Effect.ACCOUNT or (status in (401, 403) and not error.code):
        return AccountRefused(FailureReason.ACCOUNT_PROBLEM, code)
    if rule.effect is Effect.OPT_OUT:
        outcome = AttemptOutcome(
            message.number, message.attempt, Outcome.OPTED_OUT, provider_code=code
        )
        return Answered([outcome], concurrent)
    return Answered([_rejected(message, rule.reason, code)], concurrent)


def _accepted(message: delivery_pb2.ClaimedMessage, body: str, answer: HttpAnswer) -> Answer:
    try:
        created = orjson.loads(answer.body)
        sid = created["sid"]
        told = int(created.get("num_segments") or 0)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return _unknown(message, "HTTP 201")
    if not isinstance(sid, str) or not sid:
        return _unknown(message, "HTTP 201")
    # "0" with a Messaging Service, which has not chosen the sender yet: our own count then
    count = told if 0 < told <= SEGMENTS_MAX else segments(body).segments
    return Answered(
        [
            AttemptOutcome(
                message.number,
                message.attempt,
                Outcome.ACCEPTED,
                provider_message_id=sid,
                segments=count,
            )
        ],
        _concurrent_requests(answer.headers),
    )


def _concurrent_requests(headers: CIMultiDictProxy[str]) -> int | None:
    value = headers.get(CONCURRENCY_HEADER, "")
    return int(value) if value.isdecimal() else None


def parse_error(status: int, body: bytes) -> TwilioRestException:
    """An error answer as the twilio package's exception.

    Its message is left out: Twilio repeats the recipient's number in it.
    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        raw = None
    code = raw.get("code") if isinstance(raw, Mapping) else None
    return TwilioRestException(
        status=status, uri="", code=code if isinstance(code, int) else None, method="POST"
    )


def _message(answer: HttpAnswer | None) -> Listed | None:
    """The one message of an answer."""
    if answer is None or answer.status != 200:
        return None
    try:
        return Listed.parse(orjson.loads(answer.body))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _page(answer: HttpAnswer | None) -> tuple[list[Listed], str] | None:
    """The messages of one page and the path of the next one."""
    if answer is None or answer.status != 200:
        return None
    try:
        raw = orjson.loads(answer.body)
        listed = [Listed.parse(item) for item in raw["messages"]]
        following = raw.get("next_page_uri") or ""
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    # a path of this host: the next request carries the account's credentials
    is_path = isinstance(following, str) and following[:1] in ("", "/")
    return (listed, following) if is_path else None

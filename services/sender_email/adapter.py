"""SendGrid as a provider: one request for up to 1,000 recipients, the answer as their outcomes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import orjson
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from outreach.email.compiled import CompiledEmail
from outreach.internal.v1 import delivery_pb2
from outreach.sending.attempt_token import TokenKey
from outreach.sending.outcomes import (
    AccountRefused,
    Answer,
    Answered,
    AttemptOutcome,
    Divided,
    NotSent,
)
from outreach.sending.provider import CampaignNotSendable
from outreach.sending.transport import (
    AnswerLost,
    BegunPayload,
    HttpAnswer,
    HttpTransport,
    NothingLeft,
)
from outreach.template.placeholders import UnknownPlaceholder
from outreach.v1 import campaign_pb2
from outreach.vocabulary import Channel, FailureReason, Outcome
from services.sender_email.answers import Asked, outcomes, read_answer, unknown
from services.sender_email.limits import (
    MESSAGES_MAX,
    PERSONALIZATION_BYTES_MORE,
    REQUEST_BYTES_MAX,
    SUBSTITUTIONS_BYTES_MAX,
    alike,
    distinct,
    fitting,
)
from services.sender_email.look_up import LookUp
from services.sender_email.request import UNSUBSCRIBE_PATH, MailTemplate

JSON_TYPE: Final = "application/json"
SEND_PATH: Final = "/v3/mail/send"
#: `provider_code` of what we refuse ourselves.
TOO_LARGE_CODE: Final = "HTTP 413"
#: So many recipients refused one by one, none of them named, and nobody accepted: it is the campaign.
UNNAMED_REFUSALS_MAX: Final = 10


@dataclass(slots=True)
class _Evidence:
    """Whether a 400 that names nothing may be the recipient's fault."""

    has_accepted: bool = False
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class PreparedEmail:
    """A campaign ready to send."""

    organisation_id: bytes
    campaign_id: bytes
    template: MailTemplate
    skip_incomplete: bool
    headers: CIMultiDict[str]
    evidence: _Evidence = field(default_factory=_Evidence)


def bearer_headers(api_key: str) -> CIMultiDict[str]:
    """The headers of every request of an account."""
    return CIMultiDict(
        {
            hdrs.AUTHORIZATION: f"Bearer {api_key}",
            hdrs.ACCEPT: JSON_TYPE,
            hdrs.USER_AGENT: "outreach",
        }
    )


class SendGridProvider:
    """`outreach.sending.provider.Provider` for SendGrid's v3 API."""

    def __init__(
        self, transport: HttpTransport, token_key: TokenKey, *, api_url: str, public_url: str
    ) -> None:
        self._transport = transport
        self._token_key = token_key
        self._api_url = api_url
        self._send_url = URL(f"{api_url}{SEND_PATH}", encoded=True)
        self._unsubscribe_url = f"{public_url}{UNSUBSCRIBE_PATH}"

    @property
    def channel(self) -> Channel:
        return Channel.EMAIL

    @property
    def messages_per_request_max(self) -> int:
        return MESSAGES_MAX

    def prepare(
        self,
        content: delivery_pb2.CampaignContent,
        account: delivery_pb2.ProviderAccount,
        attachments: Sequence[bytes],
    ) -> PreparedEmail:
        if not account.sendgrid.api_key:
            raise CampaignNotSendable(FailureReason.ACCOUNT_PROBLEM)
        if not getattr(content.email, "from").address:
            raise CampaignNotSendable(FailureReason.SENDER_NOT_ALLOWED)
        try:
            compiled = CompiledEmail.from_dict(orjson.loads(content.compiled_email))
            email = compiled.bind(content.variable_names)
        except (ValueError, KeyError, TypeError, UnknownPlaceholder) as error:
            raise CampaignNotSendable(FailureReason.CONTENT_REJECTED) from error
        organisation_id = UUID(content.organisation_id).bytes
        campaign_id = UUID(content.campaign_id).bytes
        template = MailTemplate(
            content,
            email,
            attachments,
            organisation_id=organisation_id,
            campaign_id=campaign_id,
            token_key=self._token_key,
            unsubscribe_url=self._unsubscribe_url,
        )
        one_bytes = SUBSTITUTIONS_BYTES_MAX + PERSONALIZATION_BYTES_MORE
        if template.shared_bytes + one_bytes > REQUEST_BYTES_MAX:
            raise CampaignNotSendable(FailureReason.CONTENT_REJECTED, TOO_LARGE_CODE)
        return PreparedEmail(
            organisation_id=organisation_id,
            campaign_id=campaign_id,
            template=template,
            skip_incomplete=content.missing_variable_policy
            == campaign_pb2.MISSING_VARIABLE_POLICY_SKIP,
            headers=bearer_headers(account.sendgrid.api_key),
        )

    async def send(
        self,
        prepared: PreparedEmail,
        messages: Sequence[delivery_pb2.ClaimedMessage],
        begin: Callable[[], None],
    ) -> Answer:
        rejected: list[AttemptOutcome] = []
        if prepared.skip_incomplete:
            messages, rejected = _without_incomplete(prepared.template, messages)
            if not messages:
                return Answered(rejected)
        answer = await self._send(prepared, messages, begin)
        if rejected and isinstance(answer, Answered | Divided):
            return replace(answer, outcomes=[*rejected, *answer.outcomes])
        return answer

    async def _send(
        self,
        prepared: PreparedEmail,
        messages: Sequence[delivery_pb2.ClaimedMessage],
        begin: Callable[[], None],
    ) -> Answer:
        for parts in (alike(messages), distinct(messages)):
            if len(parts) > 1:
                return Divided([], parts)
        template = prepared.template
        made = template.personalizations(messages)
        parts = fitting(messages, made, shared_bytes=template.shared_bytes)
        if len(parts) > 1:
            return Divided([], parts)
        together = [one for one in made if one is not None]
        asked = Asked(messages, is_rendered=not together)
        is_retry = messages[0].is_retry
        pieces = (
            template.together(together, is_retry=is_retry)
            if together
            else template.alone(messages[0])
        )
        if pieces is None:
            reason = FailureReason.CONTENT_REJECTED
            return Answered(
                outcomes(messages, Outcome.REJECTED, reason=reason, code=TOO_LARGE_CODE)
            )
        return _judged(prepared.evidence, asked, await self._ask(prepared, asked, pieces, begin))

    async def _ask(
        self,
        prepared: PreparedEmail,
        asked: Asked,
        pieces: Sequence[bytes],
        begin: Callable[[], None],
    ) -> Answer:
        payload = BegunPayload(pieces, JSON_TYPE, begin)
        try:
            answer = await self._transport.post_payload(self._send_url, prepared.headers, payload)
        except NothingLeft as error:
            return NotSent(str(error))
        except AnswerLost as error:
            if error.status is None:
                return unknown(asked)
            # what counts had arrived
            answer = HttpAnswer(error.status, b"", CIMultiDictProxy(CIMultiDict()))
        return read_answer(asked, answer, now=datetime.now(UTC))

    async def look_up(
        self, prepared: PreparedEmail, attempt: delivery_pb2.UnknownAttempt
    ) -> AttemptOutcome | None:
        message = attempt.message
        attempt_id = self._token_key.sign_attempt(
            prepared.organisation_id, prepared.campaign_id, message.number, message.attempt
        )
        look_up = LookUp(self._transport, self._api_url, prepared.headers)
        return await look_up.find(attempt, attempt_id)


def _without_incomplete(
    template: MailTemplate, messages: Sequence[delivery_pb2.ClaimedMessage]
) -> tuple[Sequence[delivery_pb2.ClaimedMessage], list[AttemptOutcome]]:
    """The complete ones, and the others' outcomes."""
    complete: list[delivery_pb2.ClaimedMessage] = []
    incomplete: list[delivery_pb2.ClaimedMessage] = []
    for message in messages:
        (incomplete if template.missing(message) else complete).append(message)
    reason = FailureReason.MISSING_VARIABLE
    return complete, outcomes(incomplete, Outcome.REJECTED, reason=reason)


def _judged(evidence: _Evidence, asked: Asked, answer: Answer) -> Answer:
    """The answer, or the campaign's failure when one recipient after the other is refused for
    nothing that is named. Without that, all of them would be.
    """
    if not isinstance(answer, Answered) or evidence.has_accepted:
        return answer
    first = answer.outcomes[0]
    if first.outcome is Outcome.ACCEPTED:
        evidence.has_accepted = True
    elif len(asked.messages) == 1 and first.failure_reason is FailureReason.OTHER:
        evidence.refusals += 1
        if evidence.refusals > UNNAMED_REFUSALS_MAX:
            return AccountRefused(FailureReason.CONTENT_REJECTED, first.provider_code)
    return answer

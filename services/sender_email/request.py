"""The body of `mail/send`, put together from bytes: what is the same for all recipients is encoded
once a campaign. A wire test holds it against the sendgrid package's own.
"""

import base64
from collections.abc import Sequence
from typing import Any, Final

import orjson

from outreach.email.compiled import BoundEmail
from outreach.internal.v1 import delivery_pb2
from outreach.sending.attempt_token import TokenKey
from outreach.v1 import campaign_pb2
from services.sender_email.addresses import as_sent
from services.sender_email.limits import (
    REQUEST_BYTES_MAX,
    SUBSTITUTIONS_BYTES_MAX,
    SUBSTITUTIONS_MAX,
)

UNSUBSCRIBE_PATH: Final = "/unsubscribe/"
#: RFC 8058; the same for all.
_HEADERS: Final = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
#: The links and the headers are ours; SendGrid must not add its own to them.
_TRACKING: Final = {"subscription_tracking": {"enable": False}}

_END: Final = b"]}"
#: SendGrid drops what goes to an address that has bounced. Whoever asks for a retry asks for another try; those who
#: complained or unsubscribed stay out.
_RETRY_END: Final = b'],"mail_settings":{"bypass_bounce_management":{"enable":true}}}'


class MailTemplate:
    """What one campaign's requests are made of.

    `attachments` are those of the content, in its order. `unsubscribe_url` is a URL up to the token.
    """

    def __init__(
        self,
        content: delivery_pb2.CampaignContent,
        email: BoundEmail,
        attachments: Sequence[bytes],
        *,
        organisation_id: bytes,
        campaign_id: bytes,
        token_key: TokenKey,
        unsubscribe_url: str,
    ) -> None:
        self._email = email
        self._organisation_id = organisation_id
        self._campaign_id = campaign_id
        self._token_key = token_key
        self._unsubscribe_url = unsubscribe_url
        self._has_too_many_tags = len(email.email.tags) > SUBSTITUTIONS_MAX
        self._envelope = _envelope(content, attachments)
        template = email.email
        self._content = _content(template.subject, template.html, template.text)
        test = b',"test":"true"' if content.is_test else b""
        self._alone = b"".join(
            (
                b'{"to":[{"email":%b}],"custom_args":{"attempt_id":"%b","recipient_hash":"%b"',
                test,
                b'},"headers":{"List-Unsubscribe":"<',
                orjson.dumps(unsubscribe_url)[1:-1].replace(b"%", b"%%"),
                b'%b>"}',
            )
        )
        self._among_others = self._alone + b',"substitutions":%b}'
        self._alone += b"}"

    @property
    def shared_bytes(self) -> int:
        """The size of a request without its personalizations, and with the longer end."""
        return len(self._envelope) + len(self._content) + len(_RETRY_END)

    def missing(self, message: delivery_pb2.ClaimedMessage) -> bool:
        """Whether a variable has neither value nor fallback."""
        return bool(self._email.missing(message.values))

    def personalizations(
        self, messages: Sequence[delivery_pb2.ClaimedMessage]
    ) -> list[bytes | None]:
        """The personalization of each message; None where SendGrid's limits for substitutions are
        exceeded. Called for every message: it is what sending costs.
        """
        dumps, substitutions = orjson.dumps, self._email.substitutions
        sign_attempt, sign_unsubscribe = (
            self._token_key.sign_attempt,
            self._token_key.sign_unsubscribe,
        )
        organisation_id, campaign_id = self._organisation_id, self._campaign_id
        url, among_others = self._unsubscribe_url, self._among_others
        if self._has_too_many_tags:
            return [None] * len(messages)
        made: list[bytes | None] = []
        for message in messages:
            number = message.number
            attempt = sign_attempt(organisation_id, campaign_id, number, message.attempt)
            token = sign_unsubscribe(organisation_id, campaign_id, number, message.recipient_hash)
            values = dumps(substitutions(message.values, url + token))
            if len(values) > SUBSTITUTIONS_BYTES_MAX:
                made.append(None)
                continue
            recipient = dumps(as_sent(message.recipient))
            of_recipient = message.recipient_hash.hex().encode()
            made.append(
                among_others % (recipient, attempt.encode(), of_recipient, token.encode(), values)
            )
        return made

    def together(
        self, personalizations: Sequence[bytes], *, is_retry: bool = False
    ) -> tuple[bytes, ...]:
        """The body of a request, in pieces; the last one only ends it. `is_retry`: of all in it."""
        return self._envelope, self._content, b",".join(personalizations), _end(is_retry)

    def alone(self, message: delivery_pb2.ClaimedMessage) -> tuple[bytes, ...] | None:
        """The body of a request for one recipient, with the values written into the content; None
        when it would be too large.
        """
        of = (self._organisation_id, self._campaign_id, message.number)
        token = self._token_key.sign_unsubscribe(*of, message.recipient_hash)
        attempt = self._token_key.sign_attempt(*of, message.attempt)
        email = self._email.render(message.values, self._unsubscribe_url + token)
        recipient = orjson.dumps(as_sent(message.recipient))
        pieces = (
            self._envelope,
            _content(email.subject, email.html, email.text),
            self._alone
            % (recipient, attempt.encode(), message.recipient_hash.hex().encode(), token.encode()),
            _end(message.is_retry),
        )
        return pieces if sum(map(len, pieces)) <= REQUEST_BYTES_MAX else None


def _end(is_retry: bool) -> bytes:
    return _RETRY_END if is_retry else _END


def _envelope(content: delivery_pb2.CampaignContent, attachments: Sequence[bytes]) -> bytes:
    """All but the content, open at its end."""
    email = content.email
    shared: dict[str, Any] = {"from": _mailbox(getattr(email, "from"))}
    if email.HasField("reply_to"):
        shared["reply_to"] = _mailbox(email.reply_to)
    shared |= {"headers": _HEADERS, "tracking_settings": _TRACKING}
    parts = [orjson.dumps(shared)[:-1]]
    if attachments:
        files = zip(content.attachments, attachments, strict=True)
        parts += [b',"attachments":[', b",".join(_attachment(*file) for file in files), b"]"]
    return b"".join(parts)


def _mailbox(address: campaign_pb2.EmailAddress) -> dict[str, str]:
    mailbox = {"email": address.address}
    if address.display_name:
        mailbox["name"] = address.display_name
    return mailbox


def _attachment(attachment: delivery_pb2.ContentAttachment, body: bytes) -> bytes:
    described = {
        "filename": attachment.file_name,
        "type": attachment.content_type,
        "disposition": "attachment",
    }
    return b"".join((orjson.dumps(described)[:-1], b',"content":"', base64.b64encode(body), b'"}'))


def _content(subject: str, html: str, text: str) -> bytes:
    """Subject and content, up to the personalizations. SendGrid takes no empty part."""
    parts = (("text/plain", text), ("text/html", html))
    content = {
        "subject": subject,
        "content": [{"type": kind, "value": value} for kind, value in parts if value],
    }
    return b"".join((b",", orjson.dumps(content)[1:-1], b',"personalizations":['))

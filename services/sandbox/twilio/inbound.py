"""Inbound messages: replies of recipients, with Twilio's default opt-out keywords."""

import secrets
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from outreach.template.segments import segments
from services.sandbox.twilio.callbacks import API_VERSION, SignedPoster
from services.sandbox.twilio.ledger import MessageLedger
from services.sandbox.twilio.validation import Account
from services.sandbox.webhooks import Failure

# Twilio's default keywords: a message opts out or in only if it is nothing but one of these words.
STOP_KEYWORDS = frozenset(
    {"STOP", "UNSUBSCRIBE", "END", "QUIT", "STOPALL", "REVOKE", "OPTOUT", "CANCEL"}
)
START_KEYWORDS = frozenset({"START", "YES", "UNSTOP"})

E164 = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{3,14}$")]


class InboundMessage(BaseModel):
    """A reply to play.

    `to`: our number, by default the account's first. `opt_out_type`: what Advanced Opt-Out adds to
    the webhook; it then decides, not the keyword. `url`: instead of the configured receiver.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    sender: E164 = Field(alias="from")
    body: str = Field(max_length=1_600)
    to: E164 | None = None
    opt_out_type: Literal["STOP", "START", "HELP"] | None = None
    url: str | None = Field(default=None, pattern=r"^https?://")

    @property
    def opts_out(self) -> bool | None:
        """Whether it opts out or in; none: neither."""
        word = self.opt_out_type or self.body.strip().upper()
        if word in STOP_KEYWORDS:
            return True
        return False if word in START_KEYWORDS else None


class InboundMessages:
    """Records what a reply means for the account, then posts it to the receiver.

    An opt-out holds for all the account's numbers, as it does inside one Messaging Service.
    """

    def __init__(
        self, ledger: MessageLedger, account: Account, poster: SignedPoster, url: str | None
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._poster = poster
        self._url = url

    async def receive(self, message: InboundMessage) -> dict[str, object]:
        """What was done: SID, whether the sender is opted out now, and the receiver's status."""
        opts_out = message.opts_out
        if opts_out is not None:
            self._ledger.opt(message.sender, out=opts_out)
        sid = f"SM{secrets.token_hex(16)}"
        url = message.url or self._url
        outcome: int | Failure | None = None
        if url:
            outcome = await self._poster.post(url, self._fields(message, sid), sid)
        failed = isinstance(outcome, Failure)
        return {
            "message_sid": sid,
            "opted_out": message.sender in self._ledger.opted_out,
            "receiver_status": None if failed else outcome,
            "receiver_failure": outcome if failed else None,
        }

    def _fields(self, message: InboundMessage, sid: str) -> list[tuple[str, str]]:
        fields = {
            "AccountSid": self._account.account_sid,
            "ApiVersion": API_VERSION,
            "Body": message.body,
            "From": message.sender,
            "MessageSid": sid,
            "MessagingServiceSid": self._account.messaging_service_sid,
            "NumMedia": "0",
            "NumSegments": str(segments(message.body).segments),
            "SmsMessageSid": sid,
            "SmsSid": sid,
            "SmsStatus": "received",
            "To": message.to or self._account.sender_numbers[0],
        }
        if message.opt_out_type:
            fields["OptOutType"] = message.opt_out_type
        return sorted(fields.items())

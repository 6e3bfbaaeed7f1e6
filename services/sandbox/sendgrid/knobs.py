"""The knobs of the SendGrid half: how it misbehaves, and what becomes of recipients."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]

BounceClassification = Literal[
    "Invalid Address",
    "Mailbox Unavailable",
    "Content",
    "Reputation",
    "Frequency or Volume Too High",
    "Technical",
    "Unclassified",
]

DropReason = Literal[
    "Bounced Address",
    "Unsubscribed Address",
    "Spam Reporting Address",
    "Invalid",
    "Spam Content",
    "Invalid SMTPAPI header",
    "Recipient List over Package Quota",
]

EventType = Literal[
    "processed",
    "deferred",
    "delivered",
    "bounce",
    "dropped",
    "open",
    "click",
    "spamreport",
    "unsubscribe",
    "group_unsubscribe",
]

EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)

SCOPES = (
    "mail.send",
    "asm.suppressions.global.create",
    "asm.suppressions.global.delete",
    "asm.suppressions.global.read",
    "email_activity.read",
    "suppression.read",
    "suppression.delete",
    "user.webhooks.event.settings.read",
    "user.webhooks.event.settings.update",
    "whitelabel.read",
)


UnavailableStatus = Literal[0, 429, 500, 503]
UNAVAILABLE = (
    "An outage: every API request is answered with this status (429, 500 or 503) and nothing is "
    "accepted; 0: none."
)


class EmailKnobs(BaseModel):
    """A share is a part of all recipients, 0 to 1, drawn from the seed and the address.

    Shares of requests are drawn from the address of the request's first recipient, and hit only
    the first request that begins with it; a request gets at most one of those faults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    latency_ms: float = Field(default=0.0, ge=0, le=60_000, description="Of each API answer.")
    unavailable_status: UnavailableStatus = Field(default=0, description=UNAVAILABLE)
    http_429_share: Share = Field(
        default=0.0, description="Of requests, first try answered 429, nothing accepted."
    )
    http_429_reset_seconds: int = Field(
        default=1, ge=0, le=3_600, description="From such a 429 to its `X-RateLimit-Reset`."
    )
    http_500_before_accept_share: Share = Field(
        default=0.0, description="Of requests, first try answered 500, nothing accepted."
    )
    drop_before_accept_share: Share = Field(
        default=0.0,
        description="Of requests, first try: connection closed without an answer, not accepted.",
    )
    http_500_after_accept_share: Share = Field(
        default=0.0, description="Of requests, first try accepted, yet answered 500."
    )
    drop_after_accept_share: Share = Field(
        default=0.0,
        description="Of requests, first try accepted, connection closed without an answer.",
    )
    rate_limit_requests: int = Field(
        default=10_000, ge=1, description="Requests a window; above it 429 until the window ends."
    )
    rate_limit_window_seconds: int = Field(
        default=1, ge=1, le=3_600, description="Length of the window of that limit."
    )
    request_bytes_max: int = Field(
        default=30 * 1024 * 1024,
        ge=1_024,
        le=64 * 1024 * 1024,
        description="A longer mail/send is answered 413, with the proxy's HTML.",
    )
    rejected_share: Share = Field(
        default=0.0, description="A request with such a recipient is refused: 400 that names it."
    )
    rejected_unnamed_share: Share = Field(
        default=0.0, description="A request with such a recipient is refused: 400, no field named."
    )
    deferred_then_delivered_share: Share = Field(
        default=0.0, description="Deferred, later delivered."
    )
    deferred_for_ever_share: Share = Field(
        default=0.0, description="Deferred, and nothing more (but see `deferral_expires_seconds`)."
    )
    bounced_classes: Mapping[BounceClassification, Share] = Field(
        default_factory=dict, description="Bounce classification → share bounced (type `bounce`)."
    )
    blocked_classes: Mapping[BounceClassification, Share] = Field(
        default_factory=dict, description="Bounce classification → share blocked (type `blocked`)."
    )
    dropped_reasons: Mapping[DropReason, Share] = Field(
        default_factory=dict, description="Reason → share dropped."
    )
    bounced_after_delivery_share: Share = Field(
        default=0.0, description="Delivered, and bounced afterwards."
    )
    no_final_event_share: Share = Field(default=0.0, description="Processed, and nothing more.")
    open_share: Share = Field(default=0.0, description="Of those delivered: opened.")
    click_share: Share = Field(default=0.0, description="Of those delivered: a link clicked.")
    spamreport_share: Share = Field(
        default=0.0, description="Of those delivered: reported as spam, and suppressed."
    )
    unsubscribe_share: Share = Field(
        default=0.0, description="Of those delivered: unsubscribed, and suppressed."
    )
    group_unsubscribe_share: Share = Field(
        default=0.0, description="Of those delivered: unsubscribed from the group."
    )
    events_enabled: bool = Field(default=True, description="Events are posted at all.")
    event_types: tuple[EventType, ...] = Field(
        default=EVENT_TYPES, description="Types of events that are posted."
    )
    event_delay_ms_min: float = Field(
        default=200.0, ge=0, le=3_600_000, description="Accept to first outcome, at least."
    )
    event_delay_ms_max: float = Field(
        default=1_500.0, ge=0, le=3_600_000, description="Accept to first outcome, at most."
    )
    deferrals: int = Field(
        default=2, ge=1, le=3, description="`deferred` events of a message that is deferred."
    )
    deferral_seconds: float = Field(
        default=2.0, ge=0, le=86_400, description="First deferral to delivery."
    )
    deferral_expires_seconds: float = Field(
        default=0.0,
        ge=0,
        le=86_400,
        description="First deferral to the `bounce` (blocked) that ends one for ever; 0: never.",
    )
    late_bounce_seconds: float = Field(
        default=1.0, ge=0, le=86_400, description="Delivery to the bounce after it."
    )
    engagement_seconds: float = Field(
        default=0.5, ge=0, le=86_400, description="Delivery to the last of what the recipient does."
    )
    event_lost_share: Share = Field(default=0.0, description="Of events, never posted.")
    event_duplicated_share: Share = Field(
        default=0.0, description="Of events, posted twice, with the same `sg_event_id`."
    )
    event_reordered_share: Share = Field(
        default=0.0, description="Of recipients, events in reverse: the last comes first."
    )
    event_fields_missing_share: Share = Field(
        default=0.0, description="Of events, without the fields that may be missing."
    )
    event_batch_max: int = Field(default=1_000, ge=1, le=10_000, description="Events a POST.")
    event_batch_bytes_max: int = Field(
        default=768_000, ge=1, le=10_000_000, description="Length of a POST, about."
    )
    event_batch_wait_ms: float = Field(
        default=200.0,
        ge=0,
        le=60_000,
        description="An event waits so long for others (theirs: 30 s).",
    )
    event_retry_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="Time over which ten retries of a POST grow."
    )
    look_up_lag_seconds: float = Field(
        default=0.0, ge=0, le=3_600, description="Younger messages are missing from look-ups."
    )
    scopes: tuple[str, ...] = Field(
        default=SCOPES,
        description="Rights of the API key; without `mail.send` a send is a 403, without"
        " `email_activity.read` so is a look-up in Email Activity.",
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        groups = {
            "http_429_share, http_500_*_share and drop_*_share": [
                self.http_429_share,
                self.http_500_before_accept_share,
                self.drop_before_accept_share,
                self.http_500_after_accept_share,
                self.drop_after_accept_share,
            ],
            "rejected_share and rejected_unnamed_share": [
                self.rejected_share,
                self.rejected_unnamed_share,
            ],
            "deferred_*, bounced_*, blocked_*, dropped_* and no_final_event_share": [
                self.deferred_then_delivered_share,
                self.deferred_for_ever_share,
                *self.bounced_classes.values(),
                *self.blocked_classes.values(),
                *self.dropped_reasons.values(),
                self.bounced_after_delivery_share,
                self.no_final_event_share,
            ],
            "spamreport_share and *unsubscribe_share": [
                self.spamreport_share,
                self.unsubscribe_share,
                self.group_unsubscribe_share,
            ],
        }
        for name, shares in groups.items():
            if sum(shares) > 1.0 + 1e-9:
                raise ValueError(f"{name} add up to {sum(shares):.4f}, more than 1")
        if self.event_delay_ms_max < self.event_delay_ms_min:
            raise ValueError("event_delay_ms_max is less than event_delay_ms_min")
        return self

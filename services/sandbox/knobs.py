"""The knobs: how the sandbox misbehaves. One model: Twilio's here, SendGrid's under `email`."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.sandbox.sendgrid.knobs import UNAVAILABLE, EmailKnobs, UnavailableStatus

Share = Annotated[float, Field(ge=0.0, le=1.0)]
TwilioCode = Annotated[int, Field(ge=10_000, le=99_999)]

CALLBACK_STATUSES = ("queued", "sending", "sent")


class Knobs(BaseModel):
    """A share is a part of all recipients, 0 to 1, drawn from the seed and the number.

    The transport faults (`http_429_share`, `http_500_*`, `drop_*`) hit only the first try for a
    number; a number gets at most one of them. All other fates hold for every try.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    latency_ms: float = Field(default=0.0, ge=0, le=60_000, description="Of each API answer.")
    latency_jitter_ms: float = Field(
        default=0.0, ge=0, le=60_000, description="0 to this much is added to the latency."
    )
    unavailable_status: UnavailableStatus = Field(default=0, description=UNAVAILABLE)
    concurrency_max: int = Field(
        default=0, ge=0, description="API requests above it are answered 429 (20429); 0: no limit."
    )
    http_429_share: Share = Field(default=0.0, description="First try answered 429, not accepted.")
    http_500_before_accept_share: Share = Field(
        default=0.0, description="First try answered 500, not accepted."
    )
    drop_before_accept_share: Share = Field(
        default=0.0, description="First try: connection closed without an answer, not accepted."
    )
    http_500_after_accept_share: Share = Field(
        default=0.0, description="First try accepted, yet answered 500."
    )
    drop_after_accept_share: Share = Field(
        default=0.0, description="First try accepted, connection closed without an answer."
    )
    rejected_codes: Mapping[TwilioCode, Share] = Field(
        default_factory=dict, description="Twilio code → share refused at once, with HTTP 400."
    )
    failed_codes: Mapping[TwilioCode, Share] = Field(
        default_factory=dict,
        description="Twilio code → share accepted, later undelivered or failed.",
    )
    no_receipt_share: Share = Field(default=0.0, description="Stays `sent`: no delivery receipt.")
    callbacks_enabled: bool = Field(default=True, description="Status callbacks are made at all.")
    callback_statuses: tuple[str, ...] = Field(
        default=CALLBACK_STATUSES,
        description="Intermediate statuses that get a callback (the final one always does).",
    )
    callback_delay_ms_min: float = Field(
        default=200.0, ge=0, le=3_600_000, description="Accept to final status, at least."
    )
    callback_delay_ms_max: float = Field(
        default=1_500.0, ge=0, le=3_600_000, description="Accept to final status, at most."
    )
    callback_lost_share: Share = Field(default=0.0, description="Of callbacks, never made.")
    callback_duplicated_share: Share = Field(default=0.0, description="Of callbacks, made twice.")
    callback_reordered_share: Share = Field(
        default=0.0, description="Of messages, callbacks in reverse: the final status comes first."
    )
    callback_early_share: Share = Field(
        default=0.0, description="Of messages, all callbacks are made before the create's answer."
    )
    callback_retry_seconds: float = Field(
        default=15.0, gt=0, le=600, description="Time over which five retries are spread."
    )
    list_lag_seconds: float = Field(
        default=0.0, ge=0, le=3_600, description="Younger messages are missing from the list."
    )
    email: EmailKnobs = Field(
        default_factory=EmailKnobs, description="The knobs of the SendGrid half."
    )

    @field_validator("callback_statuses")
    @classmethod
    def _known_statuses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - set(CALLBACK_STATUSES))
        if unknown:
            raise ValueError(f"unknown {unknown}; known are {list(CALLBACK_STATUSES)}")
        return value

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
            "rejected_codes": list(self.rejected_codes.values()),
            "failed_codes and no_receipt_share": [
                *self.failed_codes.values(),
                self.no_receipt_share,
            ],
        }
        for name, shares in groups.items():
            if sum(shares) > 1.0 + 1e-9:
                raise ValueError(f"{name} add up to {sum(shares):.4f}, more than 1")
        if self.callback_delay_ms_max < self.callback_delay_ms_min:
            raise ValueError("callback_delay_ms_max is less than callback_delay_ms_min")
        return self

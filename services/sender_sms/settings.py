"""Settings of the SMS sender, read from `OUTREACH_*`."""

from pydantic import Field, field_validator

from outreach.sending.settings import SendingSettings


class SenderSmsSettings(SendingSettings):
    """What the SMS sender adds to the settings of all senders."""

    sender_sms_http_host: str = Field(
        default="127.0.0.1", description="Address of the webhook endpoint."
    )
    sender_sms_http_port: int = Field(
        default=8081, ge=0, le=65_535, description="Its port; 0 takes a free one."
    )
    sender_sms_webhook_url: str = Field(
        pattern=r"^https?://[^\s?#]+$",
        description="Public base URL of the webhook endpoint, as Twilio is to call it.",
    )
    twilio_api_url: str = Field(
        default="https://api.twilio.com",
        pattern=r"^https?://[^\s?#]+$",
        description="Base URL of Twilio's API.",
    )
    sender_sms_concurrency_max: int = Field(
        default=100, ge=1, le=1_000, description="Most requests to Twilio at once."
    )
    sender_sms_concurrency_start: int = Field(
        default=32, ge=1, le=1_000, description="Requests at once before anything is known."
    )
    sender_sms_request_seconds_max: float = Field(
        default=20.0,
        gt=0,
        description="A create that takes longer has an unknown outcome.",
    )

    @field_validator("sender_sms_webhook_url", "twilio_api_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

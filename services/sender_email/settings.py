"""Settings of the email sender, read from `OUTREACH_*`."""

from pydantic import Field, field_validator

from outreach.sending.settings import SendingSettings


class SenderEmailSettings(SendingSettings):
    """What the email sender adds to the settings of all senders."""

    sender_email_http_host: str = Field(
        default="127.0.0.1", description="Address of the webhook and unsubscribe endpoint."
    )
    sender_email_http_port: int = Field(
        default=8082, ge=0, le=65_535, description="Its port; 0 takes a free one."
    )
    sender_email_public_url: str = Field(
        pattern=r"^https?://[A-Za-z0-9._~:/\[\]-]+$",
        description="Public base URL of the endpoint: recipients' unsubscribe links begin with it,"
        " and SendGrid posts its events below it.",
    )
    sendgrid_api_url: str = Field(
        default="https://api.sendgrid.com",
        pattern=r"^https?://[^\s?#]+$",
        description="Base URL of SendGrid's API.",
    )
    sender_email_concurrency_max: int = Field(
        default=8,
        ge=1,
        le=200,
        description="Most requests to SendGrid at once, of up to 1,000 emails each.",
    )
    sender_email_concurrency_start: int = Field(
        default=4, ge=1, le=200, description="Requests at once before anything is known."
    )
    sender_email_request_seconds_max: float = Field(
        default=30.0, gt=0, description="A send that takes longer has an unknown outcome."
    )

    @field_validator("sender_email_public_url", "sendgrid_api_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

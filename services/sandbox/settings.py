"""Settings of the sandbox process, read from `OUTREACH_SANDBOX_*`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.sandbox.knobs import Knobs

E164_PATTERN = r"^\+[1-9][0-9]{3,14}$"


class SandboxSettings(BaseSettings):
    """Who the sandbox pretends to be, and where it listens; the defaults let it start alone.

    The credentials are made up: they protect nothing and only have to match the sender's.
    """

    model_config = SettingsConfigDict(env_prefix="OUTREACH_SANDBOX_", extra="forbid")

    http_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    http_port: int = Field(default=8090, ge=0, le=65535, description="Port; 0 takes a free one.")
    ready_file: Path | None = Field(
        default=None, description='Once listening, `{"port": …}` is written here, atomically.'
    )
    account_sid: str = Field(
        default="AC5a17d0b0c5a17d0b0c5a17d0b0c5a17d",
        pattern=r"^AC[0-9a-fA-F]{32}$",
        description="The only account there is.",
    )
    auth_token: str = Field(
        default="5a17d0b0c5a17d0b0c5a17d0b0c5a17d",
        min_length=1,
        repr=False,
        description="Password of Basic auth and key of the webhook signatures.",
    )
    messaging_service_sid: str = Field(
        default="MG5a17d0b0c5a17d0b0c5a17d0b0c5a17d",
        pattern=r"^MG[0-9a-fA-F]{32}$",
        description="Its only Messaging Service.",
    )
    sender_numbers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("+15005550006",),
        min_length=1,
        description="Numbers of the account, comma-separated; all are in the Messaging Service.",
    )
    inbound_url: str | None = Field(
        default=None, description="Where inbound messages are posted; none: they are only recorded."
    )
    sendgrid_api_key: str = Field(
        default="SG.5a17d0b0c5a17d0b0c5a17.d0b0c5a17d0b0c5a17d0b0c5a17d0b0c5a17d0b0c5a",
        min_length=1,
        repr=False,
        description="Bearer key of SendGrid's API.",
    )
    sendgrid_verified_senders: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("campaigns@outreach.example",),
        description="Addresses that may send, comma-separated.",
    )
    sendgrid_domains: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("mail.outreach.example",),
        description="Authenticated domains, of which every address may send, comma-separated.",
    )
    sendgrid_event_url: str | None = Field(
        default=None, description="Where SendGrid's events are posted; none: nowhere."
    )
    data_dir: Path | None = Field(
        default=None, description="Directory of the journals; none: they end with the process."
    )
    seed: str = Field(default="outreach", min_length=1, max_length=64, description="Of all fates.")
    knobs: Knobs = Field(default_factory=Knobs, description="Initial knobs, as JSON.")
    callback_connections_max: int = Field(
        default=64, ge=1, le=1024, description="Webhooks under way at once."
    )

    @field_validator("sendgrid_verified_senders", "sendgrid_domains")
    @classmethod
    def _lower(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(str.lower, value))

    @field_validator(
        "sender_numbers", "sendgrid_verified_senders", "sendgrid_domains", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(filter(None, value.replace(" ", "").split(",")))
            if isinstance(value, str)
            else value
        )

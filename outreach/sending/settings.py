"""Settings that all senders share, read from `OUTREACH_*`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from outreach.sending.attempt_token import TokenKey


class SendingSettings(BaseSettings):
    """How a sender reaches the rest of the system."""

    model_config = SettingsConfigDict(
        env_prefix="OUTREACH_", extra="ignore", hide_input_in_errors=True
    )

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="NATS with JetStream.")
    campaign_internal_address: str = Field(
        default="127.0.0.1:50052", description="`host:port` of the campaign service's inner port."
    )
    internal_token: SecretStr = Field(
        min_length=32, description="Bearer token of outreach.internal.v1."
    )
    attempt_token_key: SecretStr = Field(
        min_length=32,
        description="Signs the tokens in callback URLs; the same for all senders of a channel.",
    )
    attempt_token_keys_retired: list[Annotated[SecretStr, Field(min_length=32)]] = Field(
        default=[],
        description="Former attempt token keys, as a JSON list: callbacks and unsubscribe links with"
        " tokens of theirs go on working.",
    )
    sender_journal_dir: Path = Field(
        description="Directory of the senders' journals; shared by the senders of one machine."
    )
    sender_reports_linger_seconds: float = Field(
        default=0.01, ge=0, le=1, description="How long a report may wait for others."
    )
    sender_reports_unacknowledged_max: int = Field(
        default=10_000, ge=1, description="With more, nothing is claimed and nothing forwarded."
    )
    sender_drain_seconds_max: float = Field(
        default=25.0,
        gt=0,
        description="Time after SIGTERM to finish what has begun and have it committed.",
    )
    log_level: str = Field(
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="Least severe log lines that are written.",
    )

    def token_key(self) -> TokenKey:
        """The key of tokens, with the retired ones."""
        return TokenKey(
            self.attempt_token_key.get_secret_value(),
            [key.get_secret_value() for key in self.attempt_token_keys_retired],
        )

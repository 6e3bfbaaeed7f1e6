"""Settings of the campaign service: environment variables with the prefix `OUTREACH_`."""

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from outreach.secrets import SECRET_KEY_CHARACTERS_MIN, Secrets

_API_KEY_CHARACTERS_MIN = 32


class Settings(BaseSettings):
    """Four must be set: POSTGRES_DSN, NATS_URL, SECRET_KEY, INTERNAL_TOKEN."""

    model_config = SettingsConfigDict(env_prefix="OUTREACH_", hide_input_in_errors=True)

    #: May hold a password, and so is never shown.
    postgres_dsn: SecretStr
    nats_url: SecretStr
    log_level: str = "INFO"

    #: Encrypts credentials, hashes recipients, signs tokens.
    secret_key: SecretStr = Field(min_length=SECRET_KEY_CHARACTERS_MIN)
    #: Former keys, newest first (JSON list).
    secret_keys_retired: list[SecretStr] = []
    #: What the senders identify themselves by.
    internal_token: SecretStr = Field(min_length=1)

    campaign_grpc_host: str = "127.0.0.1"
    campaign_grpc_port: int = Field(default=50051, ge=0, le=65535)
    campaign_internal_host: str = "127.0.0.1"
    campaign_internal_port: int = Field(default=50052, ge=0, le=65535)
    campaign_postgres_connections_max: int = Field(default=20, ge=4, le=500)
    #: How long open calls may go on after SIGTERM.
    campaign_drain_seconds_max: float = Field(default=5.0, ge=0)
    #: How long to wait for PostgreSQL at the start.
    campaign_start_seconds_max: float = Field(default=120.0, gt=0)

    assumed_delivered_after_seconds: float = Field(default=600.0, gt=0)
    unconfirmed_after_seconds: float = Field(default=900.0, gt=0)
    look_up_after_seconds: float = Field(default=20.0, gt=0)
    send_window_seconds: float = Field(default=10.0, gt=0)
    redispatch_after_seconds: float = Field(default=3.0, gt=0)
    change_log_kept_seconds: float = Field(default=24 * 3600.0, gt=0)
    #: The senders' own limit; a claim is unknown only when window and request are certainly over.
    sender_sms_request_seconds_max: float = Field(default=20.0, gt=0)

    contact_rows_max: int = Field(default=300_000, ge=1)
    contact_file_bytes_max: int = Field(default=50 * 1024 * 1024, ge=1)
    contact_columns_max: int = Field(default=64, ge=1)
    contact_field_bytes_max: int = Field(default=4_096, ge=1)

    #: An organisation that the service sets up at start; its id follows from its name.
    bootstrap_organisation_name: str | None = None
    bootstrap_api_key: SecretStr | None = Field(default=None, min_length=_API_KEY_CHARACTERS_MIN)
    bootstrap_twilio_account_sid: str | None = None
    bootstrap_twilio_auth_token: SecretStr | None = None
    bootstrap_twilio_messaging_service_sid: str | None = None
    bootstrap_twilio_from: str | None = None
    bootstrap_segments_per_second_max: float | None = Field(default=None, gt=0)
    bootstrap_price_per_segment_micros: int | None = Field(default=None, ge=0)
    bootstrap_currency_code: str | None = Field(default=None, pattern="^[A-Z]{3}$")

    @model_validator(mode="after")
    def _bootstrap_is_whole(self) -> "Settings":
        if (self.bootstrap_organisation_name is None) != (self.bootstrap_api_key is None):
            raise ValueError("BOOTSTRAP_ORGANISATION_NAME and BOOTSTRAP_API_KEY go together")
        if self.bootstrap_twilio_account_sid is None:
            return self
        if self.bootstrap_organisation_name is None or self.bootstrap_twilio_auth_token is None:
            raise ValueError(
                "BOOTSTRAP_TWILIO_ACCOUNT_SID needs BOOTSTRAP_ORGANISATION_NAME and "
                "BOOTSTRAP_TWILIO_AUTH_TOKEN"
            )
        senders = (self.bootstrap_twilio_messaging_service_sid, self.bootstrap_twilio_from)
        if sum(sender is not None for sender in senders) != 1:
            raise ValueError(
                "give one of BOOTSTRAP_TWILIO_MESSAGING_SERVICE_SID and BOOTSTRAP_TWILIO_FROM"
            )
        return self

    def secrets(self) -> Secrets:
        """All keys of the service."""
        return Secrets(
            self.secret_key.get_secret_value(),
            [key.get_secret_value() for key in self.secret_keys_retired],
        )

"""Settings of the campaign service: environment variables with the prefix `OUTREACH_`."""

import base64
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from outreach.secrets import SECRET_KEY_CHARACTERS_MIN, Secrets
from services.campaign.contacts.errors import ContactLimits

_API_KEY_CHARACTERS_MIN = 32


class Settings(BaseSettings):
    """Four must be set: POSTGRES_DSN, NATS_URL, SECRET_KEY, INTERNAL_TOKEN."""

    model_config = SettingsConfigDict(
        env_prefix="OUTREACH_",
        hide_input_in_errors=True,
        # A container's environment lists what may be left empty, such as the provider of a channel that is not used.
        env_ignore_empty=True,
    )

    postgres_dsn: SecretStr = Field(
        description="PostgreSQL 18 or newer, as `postgres://user:password@host:port/database`."
    )
    nats_url: SecretStr = Field(description="NATS with JetStream.")
    log_level: str = Field(
        default="INFO", description="Least severe log lines that are written: DEBUG to ERROR."
    )

    secret_key: SecretStr = Field(
        min_length=SECRET_KEY_CHARACTERS_MIN,
        description="Encrypts credentials, hashes recipients, signs tokens; at least 32 characters.",
    )
    secret_keys_retired: list[SecretStr] = Field(
        default=[],
        description="Former secret keys, newest first, as a JSON list; the oldest hashes recipients.",
    )
    internal_token: SecretStr = Field(
        min_length=1, description="What the senders identify themselves by."
    )

    campaign_grpc_host: str = Field(
        default="127.0.0.1", description="Address of the public services."
    )
    campaign_grpc_port: int = Field(
        default=50051,
        ge=0,
        le=65535,
        description="Port of the public services; 0 takes a free one.",
    )
    campaign_internal_host: str = Field(
        default="127.0.0.1", description="Address of the senders' service."
    )
    campaign_internal_port: int = Field(
        default=50052, ge=0, le=65535, description="Port of the senders' service; 0: a free one."
    )
    campaign_postgres_connections_max: int = Field(
        default=20, ge=4, le=500, description="Connections to PostgreSQL of one process."
    )
    campaign_drain_seconds_max: float = Field(
        default=5.0, ge=0, description="How long open calls may go on after SIGTERM."
    )
    campaign_start_seconds_max: float = Field(
        default=120.0, gt=0, description="How long to wait for PostgreSQL at the start."
    )

    assumed_delivered_after_seconds: float = Field(
        default=600.0,
        gt=0,
        description="An SMS so long in SENT without a receipt is looked up at Twilio, and assumed delivered when "
        "there is no news; after twice the time in any case.",
    )
    unconfirmed_after_seconds: float = Field(
        default=900.0,
        gt=0,
        description="An attempt whose outcome is unknown for so long is FAILED: UNCONFIRMED.",
    )
    look_up_after_seconds: float = Field(
        default=20.0,
        gt=0,
        description="An unknown attempt is looked up at the provider after this, then ever more rarely.",
    )
    send_window_seconds: float = Field(
        default=10.0, gt=0, description="A claimed message is begun within it or handed back."
    )
    redispatch_after_seconds: float = Field(
        default=3.0, gt=0, description="Jobs that nobody takes for so long are published again."
    )
    change_log_kept_seconds: float = Field(
        default=24 * 3600.0,
        gt=0,
        description="How long after its end a campaign's changes can be watched from a token.",
    )
    sender_sms_request_seconds_max: float = Field(
        default=20.0,
        gt=0,
        description="The SMS senders' own limit: a claim is unknown only when window and request are over.",
    )
    sender_email_request_seconds_max: float = Field(
        default=30.0, gt=0, description="The email senders' own limit, likewise."
    )
    email_look_up_after_seconds: float = Field(
        default=3_600.0,
        gt=0,
        description="An email so long in SENT without an event is looked up, then ever more rarely.",
    )
    email_timed_out_after_seconds: float = Field(
        default=96 * 3_600.0,
        gt=0,
        description="An email deferred for so long is FAILED: TIMED_OUT, one in SENT without an event UNCONFIRMED. "
        "SendGrid tries for 72 h, and repeats events for 24 h.",
    )

    contact_rows_max: int = Field(default=300_000, ge=1, description="Rows of a contact file.")
    contact_file_bytes_max: int = Field(
        default=50 * 1024 * 1024, ge=1, description="Size of a contact file."
    )
    contact_columns_max: int = Field(default=64, ge=1, description="Columns of a contact file.")
    contact_field_bytes_max: int = Field(
        default=4_096, ge=1, description="Size of one field of a contact file."
    )

    attachments_bytes_max: int = Field(
        default=20 * 1024 * 1024,
        ge=1,
        # SendGrid takes 30 MB a request, in which they are base64 (4 bytes for 3).
        le=22_000_000,
        description="Size of all attachments of a campaign together.",
    )

    export_role_password: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Makes the role `outreach_export`, which the export service reads by, with this password; "
        "none: an administrator makes it.",
    )
    retention_delete_after_days: float | None = Field(
        default=None,
        gt=0,
        description="So long after its end (or its last edit, when never run) a campaign is deleted; none: never.",
    )
    retention_strip_after_days: float | None = Field(
        default=None,
        gt=0,
        description="So long after its end (or its import, when never run) a campaign's contacts lose recipient and "
        "values; none: never.",
    )

    bootstrap_organisation_name: str | None = Field(
        default=None,
        description="An organisation that is set up at the start; its id follows from its name.",
    )
    bootstrap_api_key: SecretStr | None = Field(
        default=None,
        min_length=_API_KEY_CHARACTERS_MIN,
        description="Its administrator's API key; at least 32 characters. Only its hash is stored.",
    )
    bootstrap_twilio_account_sid: str | None = Field(
        default=None, description="Its Twilio account; none: no SMS campaigns."
    )
    bootstrap_twilio_auth_token: SecretStr | None = Field(
        default=None, description="The account's Auth Token; stored encrypted."
    )
    bootstrap_twilio_messaging_service_sid: str | None = Field(
        default=None, description="Its default sender: a Messaging Service. Or:"
    )
    bootstrap_twilio_from: str | None = Field(
        default=None, description="Its default sender: a number or sender id."
    )
    bootstrap_segments_per_second_max: float | None = Field(
        default=None, gt=0, description="Its pace; none: as fast as the provider takes it."
    )
    bootstrap_price_per_segment_micros: int | None = Field(
        default=None, ge=0, description="For estimates: millionths of the currency's unit."
    )
    bootstrap_currency_code: str | None = Field(
        default=None, pattern="^[A-Z]{3}$", description="Of the price, by ISO 4217."
    )
    bootstrap_sendgrid_api_key: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="Its SendGrid account; none: no email campaigns. Stored encrypted.",
    )
    bootstrap_sendgrid_webhook_public_key: str | None = Field(
        default=None,
        description="Verifies SendGrid's events, as SendGrid shows it; none: the sender asks SendGrid for it.",
    )
    bootstrap_sendgrid_push_suppressions: bool = Field(
        default=False,
        description="Whether unsubscribes are entered in SendGrid's own global suppressions too.",
    )
    bootstrap_emails_per_second_max: float | None = Field(
        default=None,
        gt=0,
        description="The pace of its emails; none: as fast as SendGrid takes them.",
    )

    @field_validator("export_role_password")
    @classmethod
    def _stays_as_it_is(cls, value: SecretStr | None) -> SecretStr | None:
        # PostgreSQL puts a password through SASLprep, which leaves these characters alone.
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("use letters, digits and other visible ASCII characters")
        return value

    @field_validator("bootstrap_sendgrid_api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("an API key has neither spaces nor characters beyond ASCII")
        return value

    @field_validator("bootstrap_sendgrid_webhook_public_key")
    @classmethod
    def _is_a_public_key(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            key = load_der_public_key(base64.b64decode(value, validate=True))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, EllipticCurvePublicKey):
            raise ValueError(
                "no public key: give SendGrid's verification key, base64 as it is shown"
            )
        return value

    @model_validator(mode="after")
    def _bootstrap_is_whole(self) -> "Settings":
        if (self.bootstrap_organisation_name is None) != (self.bootstrap_api_key is None):
            raise ValueError("BOOTSTRAP_ORGANISATION_NAME and BOOTSTRAP_API_KEY go together")
        self._check_sendgrid()
        self._check_twilio()
        return self

    def _check_sendgrid(self) -> None:
        if self.bootstrap_sendgrid_api_key is None:
            if self.bootstrap_sendgrid_webhook_public_key is not None:
                raise ValueError(
                    "BOOTSTRAP_SENDGRID_WEBHOOK_PUBLIC_KEY needs BOOTSTRAP_SENDGRID_API_KEY"
                )
        elif self.bootstrap_organisation_name is None:
            raise ValueError("BOOTSTRAP_SENDGRID_API_KEY needs BOOTSTRAP_ORGANISATION_NAME")

    def _check_twilio(self) -> None:
        if self.bootstrap_twilio_account_sid is None:
            return
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

    def contact_limits(self) -> ContactLimits:
        """How much of a file of contacts is accepted."""
        return ContactLimits(
            rows_max=self.contact_rows_max,
            file_bytes_max=self.contact_file_bytes_max,
            columns_max=self.contact_columns_max,
            field_bytes_max=self.contact_field_bytes_max,
        )

    def secrets(self) -> Secrets:
        """All keys of the service."""
        return Secrets(
            self.secret_key.get_secret_value(),
            [key.get_secret_value() for key in self.secret_keys_retired],
        )

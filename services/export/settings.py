"""Settings of the export service: environment variables with the prefix `OUTREACH_`."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One must be set: EXPORT_POSTGRES_DSN."""

    model_config = SettingsConfigDict(
        env_prefix="OUTREACH_", hide_input_in_errors=True, env_ignore_empty=True
    )

    export_postgres_dsn: SecretStr = Field(
        description="The campaign service's database, as the role `outreach_export`: "
        "`postgres://outreach_export:password@host:port/database`."
    )
    log_level: str = Field(
        default="INFO", description="Least severe log lines that are written: DEBUG to ERROR."
    )
    export_grpc_host: str = Field(default="127.0.0.1", description="Address of the service.")
    export_grpc_port: int = Field(
        default=50053, ge=0, le=65535, description="Its port; 0 takes a free one."
    )
    export_postgres_connections_max: int = Field(
        default=8,
        ge=2,
        le=500,
        description="Connections to PostgreSQL of one process; an export has one while it reads a step.",
    )
    export_streams_max: int = Field(
        default=32,
        ge=1,
        le=1_000,
        description="Exports under way at the same time; each holds up to some megabytes.",
    )
    export_write_seconds_max: float = Field(
        default=30.0, gt=0, description="A reader that takes nothing for so long is cut off."
    )
    export_drain_seconds_max: float = Field(
        default=20.0, ge=0, description="How long open exports may go on after SIGTERM."
    )
    export_start_seconds_max: float = Field(
        default=120.0,
        gt=0,
        description="How long to wait at the start for PostgreSQL, the role and the views.",
    )

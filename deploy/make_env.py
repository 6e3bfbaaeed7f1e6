# ruff: noqa: INP001 - a script run by its path, also without the package installed
"""Writes the `.env` that docker-compose.yml reads, with fresh secrets, readable by its owner only.

`python deploy/make_env.py` sets up the sandbox (nothing leaves the machine); with `--twilio` the account is asked for.
Needs nothing but Python. An existing file is never overwritten: its secrets may be the only ones there are.
"""

import argparse
import getpass
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TWILIO_API_URL = "https://api.twilio.com"


def sandbox_account() -> dict[str, str]:
    """Made-up credentials: they only have to be the same for the sandbox and its client."""
    return {
        "COMPOSE_PROFILES": "sandbox",
        "OUTREACH_BOOTSTRAP_TWILIO_ACCOUNT_SID": "AC" + secrets.token_hex(16),
        "OUTREACH_BOOTSTRAP_TWILIO_AUTH_TOKEN": secrets.token_hex(16),
        "OUTREACH_BOOTSTRAP_TWILIO_MESSAGING_SERVICE_SID": "MG" + secrets.token_hex(16),
        "OUTREACH_BOOTSTRAP_SEGMENTS_PER_SECOND_MAX": "500",
        "OUTREACH_TWILIO_API_URL": "http://sandbox:8090",
        "OUTREACH_SENDER_SMS_WEBHOOK_URL": "http://sender-sms:8081",
    }


def twilio_account(
    ask: Callable[[str], str] = input, ask_secret: Callable[[str], str] = getpass.getpass
) -> dict[str, str]:
    """The account as its owner gives it."""
    return {
        "COMPOSE_PROFILES": "",
        "OUTREACH_BOOTSTRAP_TWILIO_ACCOUNT_SID": ask("Account SID (AC…): ").strip(),
        "OUTREACH_BOOTSTRAP_TWILIO_AUTH_TOKEN": ask_secret("Auth Token (not shown): ").strip(),
        "OUTREACH_BOOTSTRAP_TWILIO_MESSAGING_SERVICE_SID": ask(
            "Messaging Service SID (MG…): "
        ).strip(),
        "OUTREACH_BOOTSTRAP_SEGMENTS_PER_SECOND_MAX": ask(
            "Segments per second that its senders may send: "
        ).strip(),
        "OUTREACH_TWILIO_API_URL": TWILIO_API_URL,
        "OUTREACH_SENDER_SMS_WEBHOOK_URL": ask("Public URL of the webhooks (https://…): ")
        .strip()
        .rstrip("/"),
    }


def environment(organisation: str, account: dict[str, str]) -> dict[str, str]:
    """Every variable of deploy/example.env."""
    return {
        **account,
        "POSTGRES_PASSWORD": secrets.token_hex(24),
        # NATS reads an unquoted value that looks like a number as one.
        "NATS_PASSWORD": "n" + secrets.token_hex(24),
        "OUTREACH_SECRET_KEY": secrets.token_hex(32),
        "OUTREACH_INTERNAL_TOKEN": secrets.token_hex(32),
        "OUTREACH_ATTEMPT_TOKEN_KEY": secrets.token_hex(32),
        "OUTREACH_BOOTSTRAP_ORGANISATION_NAME": organisation,
        "OUTREACH_BOOTSTRAP_API_KEY": secrets.token_hex(32),
    }


def problems(values: dict[str, str]) -> list[str]:
    """What can't be written: empty values, and characters that compose would read as something else."""
    return [
        f"{name} is empty or has a quote, a backslash or a line break"
        for name, value in values.items()
        if (not value and name != "COMPOSE_PROFILES") or set(value) & set("'\\\r\n")
    ]


def write(path: Path, values: dict[str, str]) -> None:
    """Create the file with mode 0600; FileExistsError when there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("# Made by deploy/make_env.py; deploy/example.env explains each. Secret.\n")
        # In single quotes compose takes everything as it stands.
        file.writelines(f"{name}='{value}'\n" for name, value in sorted(values.items()))


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--twilio", action="store_true", help="ask for a Twilio account")
    parser.add_argument("--organisation", default="Example", help="name of the first organisation")
    parser.add_argument("--output", type=Path, default=ROOT / ".env")
    options = parser.parse_args(arguments)
    values = environment(
        options.organisation, twilio_account() if options.twilio else sandbox_account()
    )
    wrong = problems(values)
    if wrong:
        sys.stderr.write("\n".join([*wrong, ""]))
        return 2
    try:
        write(options.output, values)
    except FileExistsError:
        sys.stderr.write(f"{options.output} is there already; move it away first.\n")
        return 1
    sys.stdout.write(
        f"Wrote {options.output} (mode 0600); the API key is OUTREACH_BOOTSTRAP_API_KEY in it.\n"
        "Now: docker compose up --build\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

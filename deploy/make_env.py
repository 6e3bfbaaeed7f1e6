# ruff: noqa: INP001 - a script run by its path, also without the package installed
"""Writes the `.env` that docker-compose.yml reads, with fresh secrets, readable by its owner only.

`python deploy/make_env.py` sets up both channels with the sandbox (nothing leaves the machine). With `--twilio`,
`--sendgrid` or both the accounts are asked for, and a channel without one is left out.
Needs nothing but Python. An existing file is never overwritten: its secrets may be the only ones there are.
"""

import argparse
import base64
import getpass
import hmac
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID, uuid5

ROOT = Path(__file__).resolve().parent.parent
TWILIO_API_URL = "https://api.twilio.com"
SENDGRID_API_URL = "https://api.sendgrid.com"
SANDBOX_URL = "http://sandbox:8090"

SMS_NAMES = (
    "OUTREACH_BOOTSTRAP_TWILIO_ACCOUNT_SID",
    "OUTREACH_BOOTSTRAP_TWILIO_AUTH_TOKEN",
    "OUTREACH_BOOTSTRAP_TWILIO_MESSAGING_SERVICE_SID",
    "OUTREACH_BOOTSTRAP_SEGMENTS_PER_SECOND_MAX",
    "OUTREACH_TWILIO_API_URL",
    "OUTREACH_SENDER_SMS_WEBHOOK_URL",
)
EMAIL_NAMES = (
    "OUTREACH_BOOTSTRAP_SENDGRID_API_KEY",
    "OUTREACH_BOOTSTRAP_SENDGRID_WEBHOOK_PUBLIC_KEY",
    "OUTREACH_BOOTSTRAP_SENDGRID_PUSH_SUPPRESSIONS",
    "OUTREACH_BOOTSTRAP_EMAILS_PER_SECOND_MAX",
    "OUTREACH_SENDGRID_API_URL",
    "OUTREACH_SENDER_EMAIL_PUBLIC_URL",
)
#: Also of a channel that is used.
MAY_BE_EMPTY = frozenset(
    {
        "OUTREACH_BOOTSTRAP_SENDGRID_WEBHOOK_PUBLIC_KEY",
        "OUTREACH_BOOTSTRAP_EMAILS_PER_SECOND_MAX",
        "OUTREACH_SANDBOX_SENDGRID_EVENT_URL",
    }
)
Ask = Callable[[str], str]


def sandbox_sms() -> dict[str, str]:
    """Made-up credentials: they only have to be the same for the sandbox and its client."""
    values = (
        "AC" + secrets.token_hex(16),
        secrets.token_hex(16),
        "MG" + secrets.token_hex(16),
        "500",
        SANDBOX_URL,
        "http://sender-sms:8081",
    )
    return dict(zip(SMS_NAMES, values, strict=True))


def sandbox_email() -> dict[str, str]:
    """Likewise; unsubscribe links lead to this machine, where a browser can follow them."""
    key = f"SG.{secrets.token_hex(11)}.{secrets.token_hex(21)}"
    values = (key, "", "false", "", SANDBOX_URL, "http://127.0.0.1:8082")
    return dict(zip(EMAIL_NAMES, values, strict=True))


def twilio_account(ask: Ask = input, ask_secret: Ask = getpass.getpass) -> dict[str, str]:
    """The account as its owner gives it."""
    values = (
        ask("Account SID (AC…): "),
        ask_secret("Auth Token (not shown): "),
        ask("Messaging Service SID (MG…): "),
        ask("Segments per second that its senders may send: "),
        TWILIO_API_URL,
        ask("Public URL of the SMS webhooks (https://…): ").rstrip(" /"),
    )
    return {name: value.strip() for name, value in zip(SMS_NAMES, values, strict=True)}


def sendgrid_account(ask: Ask = input, ask_secret: Ask = getpass.getpass) -> dict[str, str]:
    """The account as its owner gives it."""
    values = (
        ask_secret("SendGrid API key (not shown): "),
        ask("Verification key of the signed event webhook (empty: SendGrid is asked for it): "),
        "true"
        if ask("Enter unsubscribes at SendGrid too? (y/N): ").strip() in {"y", "Y"}
        else "false",
        ask("Emails per second that may be sent (empty: as many as SendGrid takes): "),
        SENDGRID_API_URL,
        ask("Public URL of unsubscribe links and events (https://…): ").rstrip(" /"),
    )
    return {name: value.strip() for name, value in zip(EMAIL_NAMES, values, strict=True)}


def event_path(token_key: str, organisation: str) -> str:
    """Where the email sender takes an organisation's events, as deploy/event_url.py says it, without our package."""
    body = uuid5(UUID("6f757472-6561-4368-8000-6f7267616e69"), organisation).bytes
    mac = hmac.digest(token_key.encode(), b"organisation\0" + body, "sha256")[:10]
    token = base64.urlsafe_b64encode(body + mac).rstrip(b"=").decode()
    return f"/sendgrid/events/{token}"


def environment(
    organisation: str,
    sms: Mapping[str, str] | None,
    email: Mapping[str, str] | None,
    *,
    sandbox: bool,
) -> dict[str, str]:
    """Every variable of deploy/example.env; None: the channel is not used."""
    profiles = {"sandbox": sandbox, "sms": sms is not None, "email": email is not None}
    token_key = secrets.token_hex(32)
    events = "http://sender-email:8082" + event_path(token_key, organisation)
    return {
        **(sms or dict.fromkeys(SMS_NAMES, "")),
        **(email or dict.fromkeys(EMAIL_NAMES, "")),
        "COMPOSE_PROFILES": ",".join(name for name, used in profiles.items() if used),
        "POSTGRES_PASSWORD": secrets.token_hex(24),
        "OUTREACH_EXPORT_ROLE_PASSWORD": secrets.token_hex(24),
        # NATS reads an unquoted value that looks like a number as one.
        "NATS_PASSWORD": "n" + secrets.token_hex(24),
        "OUTREACH_SECRET_KEY": secrets.token_hex(32),
        "OUTREACH_INTERNAL_TOKEN": secrets.token_hex(32),
        "OUTREACH_ATTEMPT_TOKEN_KEY": token_key,
        "OUTREACH_BOOTSTRAP_ORGANISATION_NAME": organisation,
        "OUTREACH_BOOTSTRAP_API_KEY": secrets.token_hex(32),
        "OUTREACH_SANDBOX_SENDGRID_EVENT_URL": events if sandbox else "",
    }


def sandbox_environment(organisation: str) -> dict[str, str]:
    """Both channels, and nothing leaves the machine."""
    return environment(organisation, sandbox_sms(), sandbox_email(), sandbox=True)


def problems(values: Mapping[str, str]) -> list[str]:
    """What can't be written: empty values, and characters that compose would read as something else."""
    used = values["COMPOSE_PROFILES"].split(",")
    may_be_empty = set(MAY_BE_EMPTY)
    for profile, names in (("sms", SMS_NAMES), ("email", EMAIL_NAMES)):
        if profile not in used:
            may_be_empty |= set(names)
    return [
        f"{name} is empty or has a quote, a backslash or a line break"
        for name, value in values.items()
        if (not value and name not in may_be_empty) or set(value) & set("'\\\r\n")
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
    parser.add_argument("--sendgrid", action="store_true", help="ask for a SendGrid account")
    parser.add_argument("--organisation", default="Example", help="name of the first organisation")
    parser.add_argument("--output", type=Path, default=ROOT / ".env")
    options = parser.parse_args(arguments)
    if options.twilio or options.sendgrid:
        values = environment(
            options.organisation,
            twilio_account() if options.twilio else None,
            sendgrid_account() if options.sendgrid else None,
            sandbox=False,
        )
    else:
        values = sandbox_environment(options.organisation)
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

"""The rules of `POST /v3/mail/send`, with the errors and field paths that SendGrid answers.

Where SendGrid has published several limits over time, the strictest counts here: what passes the
sandbox passes SendGrid.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from services.sandbox.sendgrid.content_rules import check_attachments, check_content
from services.sandbox.sendgrid.errors import FieldError
from services.sandbox.sendgrid.header_rules import check_headers

PERSONALIZATIONS_MAX = 1_000
RECIPIENTS_MAX = 1_000
SUBSTITUTIONS_BYTES_MAX = 10_000
SUBSTITUTIONS_MAX = 150
CUSTOM_ARGS_BYTES_MAX = 10_000
CATEGORIES_MAX = 10
CATEGORY_CHARACTERS_MAX = 255
REPLY_TO_LIST_MAX = 1_000
GROUPS_TO_DISPLAY_MAX = 25
SCHEDULE_SECONDS_MAX = 72 * 3_600

ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}"
)

_TOP_LEVEL = frozenset(
    {"personalizations", "from", "reply_to", "reply_to_list", "subject", "content", "attachments"}
    | {"template_id", "headers", "categories", "custom_args", "send_at", "batch_id", "asm"}
    | {"ip_pool_name", "mail_settings", "tracking_settings", "sections"}
)
_OF_PERSONALIZATION = frozenset(
    {"to", "cc", "bcc", "from", "subject", "headers", "substitutions", "custom_args", "send_at"}
    | {"dynamic_template_data"}
)
_RECIPIENT_EXAMPLE = (
    'e.g. {"email": "example@example.com"} or'
    ' {"email": "example@example.com", "name": "Example Recipient"}'
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that keeps the rules.

    `recipients`: for each personalization its addresses, those of `to` first.
    `shared`: the request without its personalizations.
    """

    personalizations: list[dict[str, Any]]
    recipients: list[list[str]]
    shared: dict[str, Any]
    sandbox_mode: bool
    send_at: int | None

    @property
    def first_email(self) -> str:
        return self.recipients[0][0]

    def senders(self) -> set[str]:
        """All From addresses of the request, in lower case."""
        own = {one["from"]["email"].lower() for one in self.personalizations if "from" in one}
        return {self.shared["from"]["email"].lower(), *own}


class RequestRefused(Exception):
    """A 400 with these errors."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__()
        self.errors = errors


def validated(request: Any, now: float, groups: frozenset[int]) -> Draft:
    """The draft of a parsed body. `groups`: ids of the account's unsubscribe groups.

    Raises:
        RequestRefused: a rule is broken; with all errors that were found.
    """
    if not isinstance(request, dict):
        raise RequestRefused([FieldError("Bad Request")])
    checks = _Checks(now)
    checks.unknown_keys(request, _TOP_LEVEL, "")
    checks.sender(request)
    recipients = checks.personalizations(request)
    checks.subject(request)
    check_content(request, checks.errors)
    check_attachments(request, checks.errors)
    check_headers(request.get("headers"), "headers", checks.errors)
    checks.reply_to(request)
    checks.categories(request)
    checks.asm(request, groups)
    checks.send_at(request, "send_at")
    if checks.errors:
        raise RequestRefused(checks.errors)
    return Draft(
        request["personalizations"],
        recipients,
        {name: value for name, value in request.items() if name != "personalizations"},
        is_enabled(request, "sandbox_mode"),
        request.get("send_at"),
    )


def is_enabled(request: dict[str, Any], setting: str) -> bool:
    """Whether one of the request's `mail_settings` is on."""
    settings = request.get("mail_settings")
    chosen = settings.get(setting) if isinstance(settings, dict) else None
    return isinstance(chosen, dict) and chosen.get("enable") is True


class _Checks:
    """Collects the errors of one request."""

    def __init__(self, now: float) -> None:
        self.errors: list[FieldError] = []
        self._now = now

    def _add(self, message: str, field: str, anchor: str = "") -> None:
        self.errors.append(FieldError(message, field, anchor and f"message.{anchor}"))

    def unknown_keys(self, given: dict[str, Any], known: frozenset[str], prefix: str) -> None:
        if not known.issuperset(given):
            for name in sorted(set(given) - known):
                self._add(f"Additional property {name} is not allowed", f"{prefix}{name}")

    def sender(self, request: dict[str, Any]) -> None:
        sender = request.get("from")
        if sender is None:
            self._add(
                "The from object must be provided for every email send. It is an object that"
                f" requires the email parameter, but may also contain a name parameter."
                f" {_RECIPIENT_EXAMPLE}",
                "from.email",
                "from",
            )
        else:
            self._address(sender, "from", "The from email does not contain a valid address.")

    def _address(self, given: Any, path: str, text: str, anchor: str = "") -> bool:
        email = given.get("email") if isinstance(given, dict) else None
        if not isinstance(email, str) or not ADDRESS.fullmatch(email):
            self._add(text, f"{path}.email", anchor or path.partition(".")[0])
            return False
        name = given.get("name")
        if name is None:
            return True
        if not isinstance(name, str):
            self._add("The name must be a string.", f"{path}.name", anchor or path)
        elif any(character in name for character in "\r\n\0"):
            self._add("The name cannot contain CRLF characters.", f"{path}.name", anchor or path)
        elif path.startswith("personalizations") and (";" in name or "," in name):
            self._add("The name cannot contain ';' or ','.", f"{path}.name", anchor or path)
        return True

    def personalizations(self, request: dict[str, Any]) -> list[list[str]]:
        given = request.get("personalizations")
        if not isinstance(given, list) or not given:
            self._add(
                "The personalizations field is required and must have at least one personalization.",
                "personalizations",
                "personalizations",
            )
            return []
        if len(given) > PERSONALIZATIONS_MAX:
            self._add(
                "The personalization block is limited to 1000 personalizations per API request."
                f" You have provided {len(given)} personalizations. Please consider splitting"
                " this into multiple requests and resending your request.",
                "personalizations",
                "personalizations",
            )
            return []
        shared_args = request.get("custom_args")
        self._custom_args(shared_args, {}, "custom_args")
        # What is at fault itself is told once, and not added to the personalizations'.
        shared = shared_args if isinstance(shared_args, dict) and _is_text_map(shared_args) else {}
        recipients = [self._personalization(one, f"personalizations.{at}", shared)
                      for at, one in enumerate(given)]  # fmt: skip
        self._total(recipients)
        return recipients

    def _total(self, recipients: list[list[str]]) -> None:
        if sum(map(len, recipients)) > RECIPIENTS_MAX:
            self._add(
                "There is a limit of 1000 total recipients (to + cc + bcc) per request.",
                "personalizations",
                "personalizations",
            )
        seen: set[str] = set()
        named: set[str] = set()
        for emails in recipients:
            # Inside one personalization the rule has an error of its own.
            for address in {email.lower() for email in emails}:
                if address in seen and address not in named:
                    named.add(address)
                    self._add(
                        "Each unique email address in the personalizations array should only be"
                        f" included once. You have included [{address}] more than once.",
                        "personalizations",
                        "personalizations",
                    )
                seen.add(address)

    def _personalization(self, given: Any, path: str, shared_args: dict[str, Any]) -> list[str]:
        if not isinstance(given, dict):
            self._add("The personalization must be an object.", path, "personalizations")
            return []
        self.unknown_keys(given, _OF_PERSONALIZATION, f"{path}.")
        emails = self._recipients(given, path)
        if "subject" in given:
            self._subject_text(given["subject"], f"{path}.subject")
        if "substitutions" in given:
            self._substitutions(given["substitutions"], f"{path}.substitutions")
        if "custom_args" in given:
            self._custom_args(given["custom_args"], shared_args, f"{path}.custom_args")
        if "headers" in given:
            check_headers(given["headers"], f"{path}.headers", self.errors)
        if "send_at" in given:
            self.send_at(given, f"{path}.send_at")
        if "from" in given:
            self._address(
                given["from"], f"{path}.from", "The from email does not contain a valid address."
            )
        return emails

    def _recipients(self, given: dict[str, Any], path: str) -> list[str]:
        to = given.get("to")
        if not isinstance(to, list) or not to:
            self._add(
                "The to array is required for all personalization objects, and must have at least"
                " one email object with a valid email address.",
                f"{path}.to",
                "personalizations.to",
            )
            return []
        emails: list[str] = []
        seen: set[str] = set()
        for kind in ("to", "cc", "bcc"):
            listed = given.get(kind, [])
            if not isinstance(listed, list):
                self._add(f"The {kind} param must be an array.", f"{path}.{kind}",
                          f"personalizations.{kind}")  # fmt: skip
                continue
            for at, recipient in enumerate(listed):
                place = f"{path}.{kind}.{at}"
                text = "Does not contain a valid address."
                if not self._address(recipient, place, text, f"personalizations.{kind}"):
                    continue
                email = recipient["email"]
                if email.lower() in seen:
                    self._add(
                        "Each email address in the personalization block should be unique between"
                        f" to, cc, and bcc. We found the first duplicate instance of [{email}] in"
                        f" the {path}.{kind} field.",
                        path,
                        "recipient-errors",
                    )
                seen.add(email.lower())
                emails.append(email)
        return emails

    def _substitutions(self, given: Any, path: str) -> None:
        if not _is_text_map(given):
            self._add(
                "The substitution values must be an object of key/value pairs, where the values"
                " are all strings.",
                path,
                "personalizations.substitutions",
            )
        elif len(given) > SUBSTITUTIONS_MAX:
            self._add(
                "Substitutions are limited to 150 items per personalization block.",
                path,
                "personalizations.substitutions",
            )
        elif _bytes(given) > SUBSTITUTIONS_BYTES_MAX:
            self._add(
                "You are limited to 10,000 bytes of substitutions per personalization.",
                path,
                "personalizations.substitutions",
            )

    def _custom_args(self, given: Any, shared: Mapping[str, Any], path: str) -> None:
        if given is None:
            return
        if not _is_text_map(given):
            self._add(
                "All values of custom arguments object must be strings",
                path,
                "personalizations.custom_args",
            )
            return
        merged = {**shared, **given} if shared else given
        if len(orjson.dumps(merged)) > CUSTOM_ARGS_BYTES_MAX:
            self._add(
                "The combined size of both global and personalization custom arguments may not"
                " exceed 10,000 bytes per personalization.",
                path,
                "personalizations.custom_args",
            )

    def subject(self, request: dict[str, Any]) -> None:
        if "subject" in request:
            self._subject_text(request["subject"], "subject")
            return
        given = request.get("personalizations")
        if not isinstance(given, list) or any(
            not isinstance(one, dict) or "subject" not in one for one in given
        ):
            self._add(
                "The subject is required. You can get around this requirement if you use a"
                " template with a subject defined or if every personalization has a subject"
                " defined.",
                "subject",
                "subject",
            )

    def _subject_text(self, subject: Any, path: str) -> None:
        if not isinstance(subject, str) or not subject:
            self._add(
                "The subject of your email must be a string at least one character in length.",
                path,
                "subject",
            )
        elif "\r" in subject or "\n" in subject or "\0" in subject:
            self._add("The subject of your email cannot contain CRLF characters.", path, "subject")

    def reply_to(self, request: dict[str, Any]) -> None:
        text = "The reply_to email does not contain a valid address."
        several = request.get("reply_to_list")
        if request.get("reply_to") is not None:
            if several is not None:
                self._add("Only one of reply_to and reply_to_list may be set.", "reply_to_list")
            self._address(request["reply_to"], "reply_to", text)
        if several is None:
            return
        if not isinstance(several, list) or not 1 <= len(several) <= REPLY_TO_LIST_MAX:
            self._add("The reply_to_list must have 1 to 1000 addresses.", "reply_to_list")
            return
        for at, one in enumerate(several):
            self._address(one, f"reply_to_list.{at}", text)

    def categories(self, request: dict[str, Any]) -> None:
        given = request.get("categories")
        if given is None:
            return
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            self._add("Categories must be an array of strings.", "categories", "categories")
            return
        if len(given) > CATEGORIES_MAX:
            self._add(
                "There is a limit of 10 categories for each email that is sent. You provided"
                f" {len(given)} categories.",
                "categories",
                "categories",
            )
        for at, one in enumerate(given):
            field = f"categories.{at}"
            if len(one) > CATEGORY_CHARACTERS_MAX:
                self._add(
                    f"Each category must not be longer than 255 characters. {one} exceeds this"
                    " limit.",
                    field,
                    "categories",
                )
            if not one.isascii():
                self._add("Categories can not contain non-ASCII characters.", field, "categories")
            if one in given[:at]:
                self._add(
                    f"The categories must be a unique list, and you have included {one} more than"
                    " once.",
                    "categories",
                    "categories",
                )

    def asm(self, request: dict[str, Any], groups: frozenset[int]) -> None:
        asm = request.get("asm")
        if asm is None:
            return
        group = asm.get("group_id") if isinstance(asm, dict) else None
        if not isinstance(group, int) or isinstance(group, bool):
            self._add("The ASM group ID must be an integer.", "asm.group_id", "asm.group_id")
            return
        shown = asm.get("groups_to_display") or []
        if group not in groups:
            self._add(
                f"The ASM group ID must be a valid Group ID on your account. You provided {group}.",
                "asm.group_id",
                "asm.group_id",
            )
        if not isinstance(shown, list) or len(shown) > GROUPS_TO_DISPLAY_MAX:
            self._add(
                "There is a limit of 25 unsubscribe groups that can be displayed to a user at a"
                " time.",
                "asm.groups_to_display",
                "asm.groups_to_display",
            )

    def send_at(self, given: dict[str, Any], path: str) -> None:
        at = given.get("send_at")
        if at is None:
            return
        if not isinstance(at, int) or isinstance(at, bool):
            self._add(
                "The send_at parameter is expecting a Unix timestamp as an integer.",
                path,
                "send_at",
            )
        elif at > self._now + SCHEDULE_SECONDS_MAX:
            self._add("Scheduling more than 72 hours in advance is forbidden.", path, "send_at")


def _is_text_map(given: Any) -> bool:
    if not isinstance(given, dict):
        return False
    return all(isinstance(value, str) for value in given.values())


def _bytes(given: dict[str, str]) -> int:
    characters = sum(map(len, given)) + sum(map(len, given.values()))
    # Most are far below the limit, so the exact count is rarely needed.
    if characters * 4 <= SUBSTITUTIONS_BYTES_MAX:
        return characters
    return sum(
        len(text.encode("utf-8", "surrogatepass")) for pair in given.items() for text in pair
    )

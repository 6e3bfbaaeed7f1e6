"""Twilio's error answers: code, HTTP status and text, as its API gives them.

The texts name the number, as Twilio's do: a caller that copies them into its logs is found out.
Source of codes and texts: Twilio's error dictionary, https://www.twilio.com/docs/api/errors.
"""


class TwilioError(Exception):
    """A refusal by Twilio: its code, its text and the HTTP status of the answer."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = status

    def body(self) -> dict[str, object]:
        return {
            "code": self.code,
            "message": self.message,
            "more_info": f"https://www.twilio.com/docs/errors/{self.code}",
            "status": self.status,
        }


AUTHENTICATE = TwilioError(20003, "Authenticate", 401)
METHOD_NOT_ALLOWED = TwilioError(20004, "Method not allowed", 405)
TOO_MANY_REQUESTS = TwilioError(20429, "Too Many Requests", 429)
INTERNAL_SERVER_ERROR = TwilioError(20500, "An internal server error has occurred", 500)
SERVICE_UNAVAILABLE = TwilioError(20503, "Service unavailable", 503)

OUTAGES = {
    error.status: error for error in (TOO_MANY_REQUESTS, INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE)
}
"""What an outage may answer, by status."""

_TEXTS = {
    20001: "Invalid parameter: {detail}",
    21211: "Invalid 'To' Phone Number: {to}",
    21212: "Invalid From Number (caller ID): {sender}",
    21408: (
        "Permission to send an SMS has not been enabled for the region indicated by the 'To' "
        "number: {to}."
    ),
    21601: "Phone number is not a valid SMS-capable inbound phone number",
    21602: "Message body is required.",
    21603: "A 'From' phone number is required.",
    21604: "A 'To' phone number is required.",
    21606: (
        "The From phone number {sender} is not a valid, SMS-capable inbound phone number or short "
        "code for your account."
    ),
    21608: (
        "The number {to} is unverified. Trial accounts cannot send messages to unverified numbers."
    ),
    21609: "The 'StatusCallback' URL {detail} is not a valid URL.",
    21610: "Attempt to send to unsubscribed recipient",
    21611: "This 'From' number has exceeded the maximum number of queued messages",
    21612: (
        "The 'To' phone number {to} is not currently reachable via SMS using the 'From' phone "
        "number {sender}"
    ),
    21614: "'To' number {to} is not a valid mobile number",
    21617: "The concatenated message body exceeds the 1600 character limit",
    21624: "Invalid ValidityPeriod: it must be an integer from 1 to 36000 seconds",
    21701: "The Messaging Service {detail} does not exist",
    21712: "The 'From' number {sender} is not in the Messaging Service",
}


def refusal(code: int, *, to: str = "", sender: str = "", detail: str = "") -> TwilioError:
    """The HTTP 400 with this code; a code without a text of its own gets a plain one."""
    text = _TEXTS.get(code, "The request was refused with error {code}")
    return TwilioError(code, text.format(to=to, sender=sender, detail=detail, code=code))


def not_found(path: str) -> TwilioError:
    """The answer for a resource that does not exist."""
    return TwilioError(20404, f"The requested resource {path} was not found", 404)

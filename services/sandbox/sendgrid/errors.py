"""SendGrid's error bodies: the errors of one request, each with its field and a link."""

from typing import NamedTuple

from services.sandbox.http import Answer, json_answer

_HELP = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#"


class FieldError(NamedTuple):
    """One error. `field` is a path as in `personalizations.3.to.0.email`; none: of no field."""

    message: str
    field: str | None = None
    anchor: str = ""


def error_answer(status: int, *errors: FieldError) -> Answer:
    """`{"errors": [...]}`, as SendGrid has it."""
    body = [
        {
            "message": error.message,
            "field": error.field,
            "help": f"{_HELP}{error.anchor}" if error.anchor else None,
        }
        for error in errors
    ]
    return json_answer(status, {"errors": body})


BAD_REQUEST = FieldError("Bad Request")
UNAUTHORIZED = FieldError("The provided authorization grant is invalid, expired, or revoked")
FORBIDDEN = FieldError("access forbidden")
NOT_FOUND = FieldError("not found")
METHOD_NOT_ALLOWED = FieldError("method not allowed")
TOO_MANY_REQUESTS = FieldError("too many requests")
SERVER_ERROR = FieldError("Internal Server Error")
SERVICE_UNAVAILABLE = FieldError("Service Unavailable")
UNSUPPORTED_MEDIA_TYPE = FieldError("Content-Type should be application/json.")
SENDER_NOT_VERIFIED = FieldError(
    "The from address does not match a verified Sender Identity. Mail cannot be sent until this"
    " error is resolved. Visit"
    " https://sendgrid.com/docs/for-developers/sending-email/sender-identity/ to see the Sender"
    " Identity requirements",
    "from",
)

OUTAGES = {429: TOO_MANY_REQUESTS, 500: SERVER_ERROR, 503: SERVICE_UNAVAILABLE}
"""What an outage may answer, by status."""

# The proxy in front of the API answers this one, hence no JSON.
TOO_LARGE = Answer(
    413,
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
    b"<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx</center>\r\n"
    b"</body>\r\n</html>\r\n",
    {"Content-Type": "text/html"},
)

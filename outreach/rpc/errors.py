"""The public catalogue of errors, and errors ⇄ `google.rpc.Status`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from google.rpc import (  # type: ignore[import-untyped] # ships stubs without a py.typed marker
    error_details_pb2,
    status_pb2,
)
from grpc import StatusCode

from outreach.errors import OutreachError, Violation

#: `ErrorInfo.domain` of every error of this system.
DOMAIN = "outreach"
#: The metadata key, of requests and answers, that names a call in our logs.
REQUEST_ID_KEY = "x-request-id"
#: Where gRPC carries the details.
DETAILS_KEY = "grpc-status-details-bin"
#: Details travel as metadata, and many clients take no more than 8 KiB of those.
DETAILS_BYTES_MAX = 6 * 1024


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """What a reason means: its gRPC status, and a sentence for docs/errors.md."""

    status: StatusCode
    description: str


def _entries(status: StatusCode, **descriptions: str) -> dict[str, ErrorEntry]:
    return {reason: ErrorEntry(status, text) for reason, text in descriptions.items()}


#: Every name of `outreach.v1.ErrorReason`, without its prefix (a test holds them together).
CATALOGUE: Mapping[str, ErrorEntry] = MappingProxyType(
    {
        **_entries(
            StatusCode.INTERNAL,
            INTERNAL="Our fault. The request id in the metadata finds it in the logs.",
        ),
        **_entries(
            StatusCode.UNAUTHENTICATED,
            CREDENTIAL_MISSING="The call carries no `authorization: Bearer <API key>`.",
            CREDENTIAL_INVALID="The API key is not known.",
        ),
        **_entries(
            StatusCode.PERMISSION_DENIED,
            ROLE_NOT_ALLOWED="The API key's role may not do this.",
        ),
        **_entries(
            StatusCode.NOT_FOUND,
            CAMPAIGN_NOT_FOUND="The organisation has no campaign with this id.",
            MESSAGE_NOT_FOUND="The campaign has no message with this number.",
            UPLOAD_NOT_FOUND="The campaign has no such upload; it may have been replaced.",
            ATTACHMENT_NOT_FOUND="The campaign has no such attachment.",
            SUPPRESSION_NOT_FOUND="The recipient is not suppressed on this channel.",
            TEST_SEND_NOT_FOUND="The organisation has no such test send; they are kept for 7 days.",
        ),
        **_entries(
            StatusCode.UNAVAILABLE,
            STORE_UNAVAILABLE="The database can't be reached now. Call again, with the same "
            "request_id: what the failed call may have done is not done twice.",
            SERVER_DRAINING="The server is being stopped. Call again; another one answers.",
        ),
        **_entries(
            StatusCode.ALREADY_EXISTS,
            REQUEST_ID_REUSED="The request_id was used for another request in the last 24 hours.",
        ),
        **_entries(
            StatusCode.OUT_OF_RANGE,
            RESUME_TOKEN_EXPIRED="What came after the token is not kept any more. Watch again "
            "without a token.",
        ),
        **_entries(
            StatusCode.RESOURCE_EXHAUSTED,
            WATCHER_TOO_SLOW="The watcher did not read fast enough. Watch again with its last "
            "token.",
            TEST_SENDS_BUSY="Too many test sends are under way. Try again when they have ended.",
            EXPORTS_BUSY="Too many exports are under way. Try again in a while.",
            EXPORT_READER_TOO_SLOW="The export was not read fast enough. Go on from what has arrived when the campaign "
            "is final, else export anew.",
        ),
        **_entries(
            StatusCode.ABORTED,
            ETAG_MISMATCH="The campaign was changed meanwhile. Get it, and decide again.",
        ),
        **_entries(
            StatusCode.DEADLINE_EXCEEDED,
            DEADLINE_EXCEEDED="The call took longer than its deadline. It may have been done: "
            "call again with the same request_id.",
        ),
        **_entries(
            StatusCode.FAILED_PRECONDITION,
            ACTION_NOT_ALLOWED="The campaign's state does not allow this; the metadata says which "
            "states would, and why.",
            CHANNEL_BUSY="Another campaign of the organisation is running on this channel; the "
            "metadata names it.",
            CHANNEL_NOT_CONFIGURED="The organisation has no provider credentials for the channel, or "
            "the provider refuses them.",
            DISCLAIMER_NOT_ACCEPTED="A run needs the disclaimer to be accepted, each time.",
            DISCLAIMER_OUTDATED="The accepted disclaimer is not the current text.",
            CONSENT_NOT_CONFIRMED="The uploader has to confirm that all contacts consented.",
            NOTHING_TO_RETRY="No message matches that may be retried; the metadata says how many make no sense.",
            MESSAGE_NOT_RETRYABLE="A message that is listed may not be retried; the metadata names numbers and why.",
            EXPORT_CHANGED="The campaign has changed since the part before was exported. Export it anew.",
        ),
        **_entries(
            StatusCode.INVALID_ARGUMENT,
            INVALID_REQUEST="Fields break rules; each violation names its field and reason.",
            PAGE_TOKEN_INVALID="The page token was not made by this system for this query.",
            RESUME_TOKEN_INVALID="The resume token was not made by this system for this watch.",
            FIELD_REQUIRED="The field has to be given.",
            FIELD_TOO_LONG="The field is longer than allowed.",
            FIELD_INVALID="The field has the wrong form.",
            FIELD_OUT_OF_RANGE="The number is outside of its range.",
            FIELD_IMMUTABLE="The field can't be changed.",
            FIELD_UNKNOWN="There is no such field, or it can't be set here.",
            TEMPLATE_EMPTY="The template has no text.",
            TEMPLATE_TOO_LONG="The template is longer than a message may be, whatever its variables.",
            TEMPLATE_MALFORMED="The template can't be read: a placeholder, or the MJML, is broken.",
            TEMPLATE_UNKNOWN_PLACEHOLDER="No column of the contacts provides the placeholder.",
            TEMPLATE_UNSUBSCRIBE_URL_MISSING="The email has no `{{unsubscribe_url}}`.",
            SENDER_NOT_VERIFIED="The provider has not verified this sender for the organisation.",
            FILE_NOT_CSV="The file is not a CSV text.",
            FILE_EMPTY="The file is empty.",
            FILE_HEADER_ONLY="The file has a header and no rows.",
            FILE_TOO_LARGE="The file is larger than allowed.",
            FILE_TRUNCATED="The file ended short of the announced size.",
            FILE_MALFORMED="The file breaks the rules of CSV in a way that can't be skipped.",
            ENCODING_UNKNOWN="The file's character encoding could not be found out.",
            TOO_MANY_COLUMNS="The file has more columns than allowed.",
            TOO_MANY_ROWS="The file has more rows than allowed.",
            NO_VALID_ROWS="No row of the file is a valid contact.",
            MAPPING_NO_DESTINATION="No column is the destination.",
            MAPPING_SEVERAL_DESTINATIONS="More than one column is the destination.",
            MAPPING_UNKNOWN_COLUMN="The file has no such column.",
            MAPPING_DUPLICATE_COLUMN="The mapping names a column twice.",
            VARIABLE_NAME_INVALID="A variable's name is a letter or `_`, then letters, digits "
            "and `_`.",
            VARIABLE_NAME_DUPLICATE="Two columns have the same variable name.",
            ATTACHMENT_TYPE_BLOCKED="Mail programs block this type of file: it can be executed.",
            ATTACHMENTS_TOO_LARGE="The attachments are larger together than an email may be.",
            EXPORT_COLUMN_UNKNOWN="There is no such column to export.",
            EXPORT_OFFSET_INVALID="The offset is not inside of the export.",
            ATTACHMENT_CHECKSUM_MISMATCH="The file that arrived is not the one that was announced.",
        ),
    }
)


def status_code_of(reason: str) -> StatusCode:
    """The gRPC status of a reason.

    Also knows the names of gRPC's own statuses, which `from_status` gives to refusals that are not
    from this system (a server that can't be reached); UNKNOWN for anything else.
    """
    entry = CATALOGUE.get(reason)
    if entry is not None:
        return entry.status
    return StatusCode.__members__.get(reason, StatusCode.UNKNOWN)


def to_status(error: OutreachError, *, request_id: str) -> status_pb2.Status:
    """The error as it goes to the caller. A reason outside of the catalogue is a KeyError."""
    entry = CATALOGUE[error.reason]
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={**error.metadata, "request_id": request_id}
    )
    status = status_pb2.Status(code=entry.status.value[0], message=error.text)
    status.details.append(_packed(info))
    fields = _field_violations(error.violations, DETAILS_BYTES_MAX - status.ByteSize())
    if fields:
        if len(fields) < len(error.violations):
            info.metadata["violations_left_out"] = str(len(error.violations) - len(fields))
            status.details[0].CopyFrom(_packed(info))
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=fields)))
    return status


def _field_violations(
    violations: Iterable[Violation], bytes_max: int
) -> list[error_details_pb2.BadRequest.FieldViolation]:
    fields = []
    for violation in violations:
        field = error_details_pb2.BadRequest.FieldViolation(
            field=violation.field, reason=violation.reason, description=violation.text
        )
        bytes_max -= field.ByteSize() + 4
        if bytes_max < 0:
            break
        fields.append(field)
    return fields


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def from_status(error: grpc.aio.AioRpcError) -> OutreachError:
    """A refused call, as the caller's program wants it.

    A refusal without our details (the server can't be reached, a proxy in between) gets the name of
    its gRPC status as the reason.
    """
    status = _status_of(error)
    reason, metadata, violations = error.code().name, dict[str, str](), list[Violation]()
    for detail in status.details if status else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations = [
                Violation(field.field, field.reason, field.description)
                for field in bad_request.field_violations
            ]
    return OutreachError(reason, error.details() or "", metadata=metadata, violations=violations)


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    trailing = error.trailing_metadata()
    value = trailing.get(DETAILS_KEY) if trailing is not None else None
    return status_pb2.Status.FromString(value) if isinstance(value, bytes) else None

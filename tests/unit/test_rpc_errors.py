"""The catalogue of errors, and errors to status and back."""

import grpc
import grpc.aio
import pytest

from outreach.errors import OutreachError, Violation
from outreach.rpc.errors import (
    CATALOGUE,
    DETAILS_BYTES_MAX,
    DETAILS_KEY,
    from_status,
    status_code_of,
    to_status,
)
from outreach.v1 import error_reason_pb2


def test_every_reason_is_in_the_catalogue_and_no_other() -> None:
    names = {
        name.removeprefix("ERROR_REASON_")
        for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    } - {"UNSPECIFIED"}
    assert set(CATALOGUE) == names
    assert all(entry.description.endswith(".") for entry in CATALOGUE.values())


def _received(error: OutreachError, request_id: str = "r-1") -> grpc.aio.AioRpcError:
    status = to_status(error, request_id=request_id)
    metadata = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return grpc.aio.AioRpcError(
        status_code_of(error.reason), trailing_metadata=metadata, details=error.text
    )


def test_an_error_arrives_as_it_was_sent() -> None:
    error = OutreachError(
        "INVALID_REQUEST",
        "Give a name.",
        metadata={"a": "b"},
        violations=[Violation("campaign.name", "FIELD_REQUIRED", "Give a name.")],
    )
    received = from_status(_received(error))
    assert (received.reason, received.text) == ("INVALID_REQUEST", "Give a name.")
    assert received.metadata == {"a": "b", "request_id": "r-1"}
    assert received.violations == error.violations


def test_details_stay_small_enough_for_metadata() -> None:
    many = [Violation(f"f[{n}]", "FIELD_INVALID", "x" * 100) for n in range(1_000)]
    error = OutreachError("INVALID_REQUEST", "wrong", violations=many)
    assert to_status(error, request_id="r").ByteSize() <= DETAILS_BYTES_MAX + 200
    received = from_status(_received(error))
    shown = len(received.violations)
    assert shown > 10
    assert received.metadata["violations_left_out"] == str(1_000 - shown)


@pytest.mark.parametrize("metadata", [None, grpc.aio.Metadata(("other", "x"))])
def test_a_refusal_that_is_not_ours_is_named_by_its_grpc_status(
    metadata: grpc.aio.Metadata | None,
) -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, trailing_metadata=metadata, details="no route"
    )
    received = from_status(error)
    assert (received.reason, received.text) == ("UNAVAILABLE", "no route")
    assert status_code_of(received.reason) is grpc.StatusCode.UNAVAILABLE


def test_a_reason_nobody_knows_has_the_status_unknown() -> None:
    assert status_code_of("NONSENSE") is grpc.StatusCode.UNKNOWN

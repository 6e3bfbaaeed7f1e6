import re
from pathlib import Path

import grpc
import pytest

from outreach.cli.exit_codes import ExitCode, exit_code_of_end, exit_code_of_error
from outreach.client import CallError
from outreach.rpc.errors import CATALOGUE, status_code_of
from outreach.v1 import campaign_pb2

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("ACTION_NOT_ALLOWED", ExitCode.REFUSED),
        ("CHANNEL_BUSY", ExitCode.REFUSED),
        ("ETAG_MISMATCH", ExitCode.REFUSED),
        ("REQUEST_ID_REUSED", ExitCode.REFUSED),
        ("DISCLAIMER_NOT_ACCEPTED", ExitCode.REFUSED),
        ("CONSENT_NOT_CONFIRMED", ExitCode.REFUSED),
        ("INVALID_REQUEST", ExitCode.USAGE),
        ("FILE_NOT_CSV", ExitCode.USAGE),
        ("CAMPAIGN_NOT_FOUND", ExitCode.NOT_FOUND),
        ("CREDENTIAL_INVALID", ExitCode.NOT_PERMITTED),
        ("ROLE_NOT_ALLOWED", ExitCode.NOT_PERMITTED),
        ("STORE_UNAVAILABLE", ExitCode.UNAVAILABLE),
        ("DEADLINE_EXCEEDED", ExitCode.UNAVAILABLE),
        ("INTERNAL", ExitCode.FAULT),
    ],
)
def test_a_reason_has_its_exit_code(reason: str, code: ExitCode) -> None:
    error = CallError(reason, "", code=status_code_of(reason))
    assert exit_code_of_error(error) is code


def test_only_our_own_fault_has_no_exit_code_of_its_own() -> None:
    faults = {
        reason
        for reason, entry in CATALOGUE.items()
        if exit_code_of_error(CallError(reason, "", code=entry.status)) is ExitCode.FAULT
    }
    assert faults == {"INTERNAL"}


def test_a_status_that_nobody_foresaw_is_a_fault() -> None:
    error = CallError("DATA_LOSS", "", code=grpc.StatusCode.DATA_LOSS)
    assert exit_code_of_error(error) is ExitCode.FAULT


def test_only_complete_is_a_good_end() -> None:
    good = [
        status
        for status in campaign_pb2.CampaignStatus.values()
        if exit_code_of_end(status) is ExitCode.OK
    ]
    assert good == [campaign_pb2.CAMPAIGN_STATUS_COMPLETE]


def test_the_docs_list_every_exit_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.MULTILINE)}
    assert listed == {int(code) for code in ExitCode}

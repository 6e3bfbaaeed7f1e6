import re

import pytest

from outreach.client import OutreachClient
from outreach.v1 import (
    attachment_pb2,
    campaign_pb2,
    contact_pb2,
    export_pb2,
    failure_catalogue_pb2,
    message_pb2,
    suppression_pb2,
    test_send_pb2,
    watch_pb2,
)

METHODS = [
    (service.name, method.name)
    for module in (
        attachment_pb2,
        campaign_pb2,
        contact_pb2,
        export_pb2,
        failure_catalogue_pb2,
        message_pb2,
        suppression_pb2,
        test_send_pb2,
        watch_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(("service", "method"), METHODS)
def test_every_public_rpc_has_a_client_method(service: str, method: str) -> None:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", method).lower()
    call = getattr(OutreachClient, name, None)
    assert call is not None, f"{service}.{method} has no OutreachClient.{name}"
    assert call.__doc__, f"OutreachClient.{name} does not say what it does"


def test_the_public_services_are_known() -> None:
    assert {service for service, _ in METHODS} == {
        "AttachmentService",
        "CampaignService",
        "ContactService",
        "ExportService",
        "FailureCatalogueService",
        "MessageService",
        "SuppressionService",
        "TestSendService",
        "WatchService",
    }

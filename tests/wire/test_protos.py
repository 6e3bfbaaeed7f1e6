"""The contracts: the list of RPCs, who serves them, and their comments."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import services
from scripts.proto_sources import Block, Item, blocks

PUBLIC = blocks("outreach.v1")
INTERNAL = blocks("outreach.internal.v1")

#: Golden: an RPC that is renamed or gone breaks programs of others.
RPCS = {
    "CampaignService": {
        "CreateCampaign": "CreateCampaignRequest → Campaign",
        "GetCampaign": "GetCampaignRequest → Campaign",
        "ListCampaigns": "ListCampaignsRequest → ListCampaignsResponse",
        "UpdateCampaign": "UpdateCampaignRequest → Campaign",
        "GetDisclaimer": "GetDisclaimerRequest → Disclaimer",
        "RunCampaign": "RunCampaignRequest → Campaign",
        "StopCampaign": "StopCampaignRequest → Campaign",
        "RetryMessages": "RetryMessagesRequest → RetryMessagesResponse",
        "DeleteCampaign": "DeleteCampaignRequest → DeleteCampaignResponse",
        "PreviewCampaign": "PreviewCampaignRequest → PreviewCampaignResponse",
        "EstimateCampaign": "EstimateCampaignRequest → EstimateCampaignResponse",
    },
    "ContactService": {
        "UploadContacts": "stream UploadContactsRequest → ContactUpload",
        "ImportContacts": "ImportContactsRequest → stream ImportContactsResponse",
        "ListContactProblems": "ListContactProblemsRequest → ListContactProblemsResponse",
        "DownloadContactProblems": (
            "DownloadContactProblemsRequest → stream DownloadContactProblemsResponse"
        ),
    },
    "MessageService": {
        "GetMessage": "GetMessageRequest → Message",
        "GetMessageTimeline": "GetMessageTimelineRequest → MessageTimeline",
        "ListMessages": "ListMessagesRequest → ListMessagesResponse",
    },
    "AttachmentService": {
        "UploadAttachment": "stream UploadAttachmentRequest → Attachment",
        "ListAttachments": "ListAttachmentsRequest → ListAttachmentsResponse",
        "DeleteAttachment": "DeleteAttachmentRequest → DeleteAttachmentResponse",
    },
    "SuppressionService": {
        "ListSuppressions": "ListSuppressionsRequest → ListSuppressionsResponse",
        "GetSuppression": "GetSuppressionRequest → Suppression",
        "CreateSuppression": "CreateSuppressionRequest → Suppression",
        "DeleteSuppression": "DeleteSuppressionRequest → DeleteSuppressionResponse",
        "ImportSuppressions": "stream ImportSuppressionsRequest → ImportSuppressionsResponse",
        "ErasePerson": "ErasePersonRequest → ErasePersonResponse",
    },
    "FailureCatalogueService": {
        "ListFailureReasons": "ListFailureReasonsRequest → ListFailureReasonsResponse",
    },
    "ExportService": {
        "ExportMessages": "ExportMessagesRequest → stream ExportResponse",
        "ExportCampaigns": "ExportCampaignsRequest → stream ExportResponse",
    },
    "TestSendService": {
        "CreateTestSend": "CreateTestSendRequest → TestSend",
        "GetTestSend": "GetTestSendRequest → TestSend",
    },
    "WatchService": {
        "WatchCampaign": "WatchCampaignRequest → stream WatchCampaignResponse",
        "WatchCampaigns": "WatchCampaignsRequest → stream WatchCampaignsResponse",
    },
    "DeliveryService": {
        "Deliver": "stream DeliverRequest → stream DeliverResponse",
        "GetCampaignContent": "GetCampaignContentRequest → CampaignContent",
        "GetProviderAccount": "GetProviderAccountRequest → ProviderAccount",
        "GetAttachment": "GetAttachmentRequest → stream GetAttachmentResponse",
        "ListProviderAccounts": "ListProviderAccountsRequest → ListProviderAccountsResponse",
        "ReportAccountCheck": "ReportAccountCheckRequest → ReportAccountCheckResponse",
        "GetRecipient": "GetRecipientRequest → GetRecipientResponse",
    },
}


def _services(found: list[Block]) -> list[Block]:
    return [block for block in found if block.kind == "service"]


def test_the_rpcs_are_these() -> None:
    found = {
        block.name: {item.name: item.type for item in block.items}
        for block in _services([*PUBLIC, *INTERNAL])
    }
    assert found == RPCS


def _servicers() -> Iterator[type]:
    for info in pkgutil.walk_packages(services.__path__, f"{services.__name__}."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == info.name:
                yield value


@pytest.mark.parametrize("service", RPCS)
def test_every_rpc_has_a_servicer(service: str) -> None:
    base = f"{service}Servicer"
    serving = [
        value
        for value in _servicers()
        if any(parent.__name__ == base for parent in value.__mro__[1:])
    ]
    assert len(serving) == 1, f"{base}: {serving}"
    for rpc in RPCS[service]:
        owner = next(parent for parent in serving[0].__mro__ if rpc in vars(parent))
        assert owner.__name__ != base, f"{service}.{rpc} is left to the generated class"


def test_every_public_rpc_and_service_is_explained() -> None:
    for block in _services(PUBLIC):
        assert block.comment, block.name
        for item in block.items:
            # A standard Get says all with its name (Google's AIP-131); its errors are the service's.
            standard = item.type == f"{item.name}Request → {item.name.removeprefix('Get')}"
            assert item.comment or standard, f"{block.name}.{item.name}"


def test_the_errors_that_comments_name_are_in_the_catalogue() -> None:
    reasons = {
        item.name.removeprefix("ERROR_REASON_")
        for block in PUBLIC
        if block.name == "ErrorReason"
        for item in block.items
    }
    for block in _services(PUBLIC):
        for text in (block.comment, *(item.comment for item in block.items)):
            for word in text.replace("(", " ").replace(")", " ").replace(",", " ").split():
                if word.startswith(
                    ("CAMPAIGN_NOT", "CHANNEL_", "DISCLAIMER_", "RESUME_", "UPLOAD_")
                ):
                    assert word.strip(".:;") in reasons, word


#: Counts of things that the message's own comment, or the name, says all about.
PLAIN = {
    ("StatusCounts", "*"),
    ("ImportProgress", "*"),
    ("ContactUpload", "size_bytes"),
    ("SmsEstimate", "segments_min"),
    ("SmsEstimate", "segments_mean"),
    ("SmsEstimate", "segments_max"),
    ("SmsEstimate", "segments_total"),
    ("MessageChange", "number"),
    ("MessageChange", "attempt"),
    ("GetMessageRequest", "number"),
    ("GetMessageTimelineRequest", "number"),
    ("MessageAttempt", "run"),
    ("StatusChange", "attempt"),
    ("StatusChange", "time"),
    ("ListContactProblemsResponse", "next_page_token"),
}
NUMBERS = ("int32", "int64", "uint32", "uint64", "double", "bytes", "Duration", "Timestamp")


def _needs_comment(block: Block, item: Item) -> bool:
    if (block.name, "*") in PLAIN or (block.name, item.name) in PLAIN:
        return False
    if item.name.endswith("_time") and item.type == "Timestamp":
        return False
    return item.type in NUMBERS or item.name in ("page_size", "next_page_token", "etag")


def test_numbers_say_their_unit_and_limit() -> None:
    silent = [
        f"{block.name}.{item.name}"
        for block in PUBLIC
        if block.kind == "message"
        for item in block.items
        if _needs_comment(block, item) and not item.comment
    ]
    assert silent == []

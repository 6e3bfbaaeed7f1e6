"""A real gRPC server that speaks the public API with answers made up by the test.

The peer for tests of the client and the command line; what the services do is tested elsewhere.
"""

# ruff: noqa: N802 - the methods are named by the protos
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from outreach.errors import OutreachError
from outreach.rpc.errors import DETAILS_KEY, status_code_of, to_status
from outreach.v1 import (
    attachment_pb2,
    attachment_pb2_grpc,
    campaign_pb2,
    campaign_pb2_grpc,
    channel_pb2,
    contact_pb2,
    contact_pb2_grpc,
    failure_reason_pb2,
    message_pb2,
    message_pb2_grpc,
    suppression_pb2,
    suppression_pb2_grpc,
    test_send_pb2,
    test_send_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
)

API_KEY = "key-of-the-scripted-organisation"
CAMPAIGN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
DISCLAIMER = campaign_pb2.Disclaimer(version="v1", points=["one", "two", "three", "four"])

Failure = OutreachError | grpc.StatusCode


class ScriptedApi(
    attachment_pb2_grpc.AttachmentServiceServicer,
    campaign_pb2_grpc.CampaignServiceServicer,
    contact_pb2_grpc.ContactServiceServicer,
    message_pb2_grpc.MessageServiceServicer,
    suppression_pb2_grpc.SuppressionServiceServicer,
    test_send_pb2_grpc.TestSendServiceServicer,
    watch_pb2_grpc.WatchServiceServicer,
):
    """Answers with one campaign. `failures` come first, one a call.

    Attributes:
        requests: what was asked, in order.
        failures: raised by the next calls, an error of ours or a bare status.
        changes: what the watch tells after the snapshot, by revision from 2.
        cut_every: the watch is cut after so many responses.
        file: the bytes of the last upload.
        test_statuses: of the messages of every test send, in order.
        attachments: what was added.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.failures: list[Failure] = []
        self.campaign = campaign_pb2.Campaign(
            id=CAMPAIGN_ID,
            name="Autumn [sale]",
            status=campaign_pb2.CAMPAIGN_STATUS_READY,
            sms=campaign_pb2.SmsContent(body="Hi {{name}}"),
            counts=campaign_pb2.StatusCounts(waiting=3, total=3),
            revision=1,
        )
        self.preview = campaign_pb2.PreviewCampaignResponse(
            sms=campaign_pb2.SmsPreview(
                text="Hi Ada [1]",
                size=campaign_pb2.SmsSize(encoding=campaign_pb2.SMS_ENCODING_GSM_7, segments=1),
            ),
            missing_variables=["city"],
        )
        self.estimate = campaign_pb2.EstimateCampaignResponse(
            to_send=3, missing_by_variable={"city": 2}, sms=campaign_pb2.SmsEstimate()
        )
        self.changes: list[watch_pb2.CampaignChanges] = []
        self.cut_every = 0
        self.cut_code = grpc.StatusCode.UNAVAILABLE
        self.file = b""
        self.attachments: list[attachment_pb2.Attachment] = []
        self.upload_chunk_bytes_max = 0
        self.hang = asyncio.Event()
        self.page_size = 2
        self.test_statuses = [message_pb2.MESSAGE_STATUS_SENT]

    async def _begin(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        metadata = dict(context.invocation_metadata() or ())
        if metadata.get("authorization") != f"Bearer {API_KEY}":
            await _abort(context, OutreachError("CREDENTIAL_INVALID", "The key is not known."))
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, OutreachError):
                await _abort(context, failure)
            await context.abort(failure, "scripted")

    async def CreateCampaign(self, request: Any, context: Any) -> campaign_pb2.Campaign:
        await self._begin(request, context)
        return self.campaign

    async def GetCampaign(self, request: Any, context: Any) -> campaign_pb2.Campaign:
        await self._begin(request, context)
        return self.campaign

    async def UpdateCampaign(self, request: Any, context: Any) -> campaign_pb2.Campaign:
        await self._begin(request, context)
        return self.campaign

    async def GetDisclaimer(self, request: Any, context: Any) -> campaign_pb2.Disclaimer:
        await self._begin(request, context)
        return DISCLAIMER

    async def RunCampaign(self, request: Any, context: Any) -> campaign_pb2.Campaign:
        await self._begin(request, context)
        return self.campaign

    async def StopCampaign(self, request: Any, context: Any) -> campaign_pb2.Campaign:
        await self._begin(request, context)
        return self.campaign

    async def RetryMessages(self, request: Any, context: Any) -> campaign_pb2.RetryMessagesResponse:
        await self._begin(request, context)
        return campaign_pb2.RetryMessagesResponse(
            campaign=self.campaign, retried=1_200, not_retryable=3
        )

    async def DeleteCampaign(
        self, request: Any, context: Any
    ) -> campaign_pb2.DeleteCampaignResponse:
        await self._begin(request, context)
        return campaign_pb2.DeleteCampaignResponse()

    async def ListSuppressions(
        self, request: Any, context: Any
    ) -> suppression_pb2.ListSuppressionsResponse:
        await self._begin(request, context)
        page = int(request.page_token or 0)
        return suppression_pb2.ListSuppressionsResponse(
            suppressions=[
                suppression_pb2.Suppression(
                    channel=channel_pb2.CHANNEL_SMS,
                    recipient="" if n else f"+1500555{page:04d}",
                    source=suppression_pb2.SUPPRESSION_SOURCE_REPLY,
                    event_time=Timestamp(seconds=1_700_000_000),
                )
                for n in range(2)
            ],
            next_page_token=str(page + 1) if page < 2 else "",
        )

    async def GetSuppression(self, request: Any, context: Any) -> suppression_pb2.Suppression:
        await self._begin(request, context)
        return suppression_pb2.Suppression(
            channel=request.channel,
            recipient=request.recipient,
            source=suppression_pb2.SUPPRESSION_SOURCE_OPERATOR,
        )

    async def CreateSuppression(self, request: Any, context: Any) -> suppression_pb2.Suppression:
        return await self.GetSuppression(request, context)

    async def DeleteSuppression(
        self, request: Any, context: Any
    ) -> suppression_pb2.DeleteSuppressionResponse:
        await self._begin(request, context)
        return suppression_pb2.DeleteSuppressionResponse()

    async def ImportSuppressions(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> suppression_pb2.ImportSuppressionsResponse:
        header = await anext(request_iterator)
        self.file = b""
        await self._begin(header, context)
        async for frame in request_iterator:
            self.file += frame.chunk
        return suppression_pb2.ImportSuppressionsResponse(rows=5, added=2, known=2, invalid=1)

    async def ErasePerson(self, request: Any, context: Any) -> suppression_pb2.ErasePersonResponse:
        await self._begin(request, context)
        return suppression_pb2.ErasePersonResponse(
            campaigns=1, contacts=2, opted_out=1, under_way=1
        )

    async def ListCampaigns(self, request: Any, context: Any) -> campaign_pb2.ListCampaignsResponse:
        await self._begin(request, context)
        page = int(request.page_token or 0)
        campaigns = [
            campaign_pb2.Campaign(id=f"{CAMPAIGN_ID[:-1]}{page * self.page_size + n}", name=f"n{n}")
            for n in range(self.page_size)
        ]
        token = str(page + 1) if page < 2 else ""
        return campaign_pb2.ListCampaignsResponse(campaigns=campaigns, next_page_token=token)

    async def PreviewCampaign(
        self, request: Any, context: Any
    ) -> campaign_pb2.PreviewCampaignResponse:
        await self._begin(request, context)
        return self.preview

    async def EstimateCampaign(
        self, request: Any, context: Any
    ) -> campaign_pb2.EstimateCampaignResponse:
        await self._begin(request, context)
        return self.estimate

    async def UploadContacts(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> contact_pb2.ContactUpload:
        header = await anext(request_iterator)
        self.file = b""
        await self._begin(header, context)
        async for frame in request_iterator:
            self.file += frame.chunk
            self.upload_chunk_bytes_max = max(self.upload_chunk_bytes_max, len(frame.chunk))
        suggest = contact_pb2.UploadColumn
        return contact_pb2.ContactUpload(
            id="upload-1",
            campaign_id=header.header.campaign_id,
            columns=[
                suggest(name="phone", suggested_role=campaign_pb2.COLUMN_ROLE_DESTINATION),
                suggest(name="mobile", suggested_role=campaign_pb2.COLUMN_ROLE_DO_NOT_IMPORT),
                suggest(
                    name="First name",
                    suggested_role=campaign_pb2.COLUMN_ROLE_CUSTOM_VARIABLE,
                    suggested_variable_name="first_name",
                ),
            ],
            sample_rows=[contact_pb2.SampleRow(values=["+14155550100", "", "Ada [x]"])],
            encoding="utf-8",
            delimiter=",",
            has_header=True,
            size_bytes=len(self.file),
        )

    async def UploadAttachment(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> attachment_pb2.Attachment:
        first = await anext(request_iterator)
        self.file = b""
        await self._begin(first, context)
        async for frame in request_iterator:
            self.file += frame.chunk
            self.upload_chunk_bytes_max = max(self.upload_chunk_bytes_max, len(frame.chunk))
        attachment = attachment_pb2.Attachment(
            id=f"{CAMPAIGN_ID[:-1]}{len(self.attachments)}",
            campaign_id=first.header.campaign_id,
            file_name=first.header.file_name,
            content_type=first.header.content_type or "application/x-scripted",
            size_bytes=len(self.file),
        )
        self.attachments.append(attachment)
        return attachment

    async def ListAttachments(
        self, request: Any, context: Any
    ) -> attachment_pb2.ListAttachmentsResponse:
        await self._begin(request, context)
        return attachment_pb2.ListAttachmentsResponse(
            attachments=self.attachments,
            size_bytes=sum(attachment.size_bytes for attachment in self.attachments),
            size_bytes_max=20_000_000,
        )

    async def DeleteAttachment(
        self, request: Any, context: Any
    ) -> attachment_pb2.DeleteAttachmentResponse:
        await self._begin(request, context)
        return attachment_pb2.DeleteAttachmentResponse()

    async def ImportContacts(
        self, request: Any, context: Any
    ) -> AsyncIterator[contact_pb2.ImportContactsResponse]:
        progress = contact_pb2.ImportProgress(bytes_read=5, bytes_total=10, rows=1)
        yield contact_pb2.ImportContactsResponse(progress=progress)
        await self._begin(request, context)
        self.campaign.contacts.rows, self.campaign.contacts.imported = 4, 3
        problem = contact_pb2.ContactProblem(
            row=3, column="phone", reason="ROW_INVALID_RECIPIENT", description="Not E.164."
        )
        result = contact_pb2.ImportResult(campaign=self.campaign, problems=[problem])
        yield contact_pb2.ImportContactsResponse(result=result)

    async def ListContactProblems(
        self, request: Any, context: Any
    ) -> contact_pb2.ListContactProblemsResponse:
        await self._begin(request, context)
        problem = contact_pb2.ContactProblem(row=3, column="phone", reason="ROW_RAGGED")
        token = "" if request.page_token else "2"
        return contact_pb2.ListContactProblemsResponse(problems=[problem], next_page_token=token)

    async def DownloadContactProblems(
        self, request: Any, context: Any
    ) -> AsyncIterator[contact_pb2.DownloadContactProblemsResponse]:
        await self._begin(request, context)
        for chunk in (b"row,column,reason,description\r\n", b"3,phone,X,Y\r\n"):
            yield contact_pb2.DownloadContactProblemsResponse(chunk=chunk)

    async def GetMessage(self, request: Any, context: Any) -> message_pb2.Message:
        await self._begin(request, context)
        return _message(request.number)

    async def GetMessageTimeline(self, request: Any, context: Any) -> message_pb2.MessageTimeline:
        await self._begin(request, context)
        message = _message(request.number)
        failed = message_pb2.MESSAGE_STATUS_FAILED
        unreachable = failure_reason_pb2.FAILURE_REASON_UNREACHABLE
        return message_pb2.MessageTimeline(
            message=message,
            attempts=[
                message_pb2.MessageAttempt(
                    attempt=1,
                    run=1,
                    status=failed,
                    failure_reason=unreachable,
                    provider_code="30003",
                    provider_message_id="SM-1",
                ),
                message_pb2.MessageAttempt(
                    attempt=2, run=2, status=message_pb2.MESSAGE_STATUS_DELIVERED
                ),
            ],
            changes=[
                message_pb2.StatusChange(status=message_pb2.MESSAGE_STATUS_QUEUED),
                message_pb2.StatusChange(status=failed, failure_reason=unreachable, attempt=1),
            ],
            sms_text="Hi Ada [1], {{city}}",
        )

    async def ListMessages(self, request: Any, context: Any) -> message_pb2.ListMessagesResponse:
        await self._begin(request, context)
        page = int(request.page_token or 0)
        messages = [_message(page * 2 + n) for n in (1, 2)]
        token = str(page + 1) if page < 1 else ""
        return message_pb2.ListMessagesResponse(messages=messages, next_page_token=token)

    async def CreateTestSend(self, request: Any, context: Any) -> test_send_pb2.TestSend:
        await self._begin(request, context)
        return self._test_send()

    async def GetTestSend(self, request: Any, context: Any) -> test_send_pb2.TestSend:
        await self._begin(request, context)
        return self._test_send()

    def _test_send(self) -> test_send_pb2.TestSend:
        failed = message_pb2.MESSAGE_STATUS_FAILED
        return test_send_pb2.TestSend(
            id="test-1",
            campaign_id=CAMPAIGN_ID,
            messages=[
                test_send_pb2.TestMessage(
                    recipient=f"+1415555010{n}",
                    status=status,
                    failure_reason=failure_reason_pb2.FAILURE_REASON_UNREACHABLE
                    if status == failed
                    else failure_reason_pb2.FAILURE_REASON_UNSPECIFIED,
                    provider_code="30003" if status == failed else "",
                )
                for n, status in enumerate(self.test_statuses)
            ],
        )

    async def WatchCampaign(
        self, request: Any, context: Any
    ) -> AsyncIterator[watch_pb2.WatchCampaignResponse]:
        await self._begin(request, context)
        for told, response in enumerate(self._responses(request.resume_token), start=1):
            yield response
            if self.cut_every and told == self.cut_every:
                await context.abort(self.cut_code, "cut")
        await self.hang.wait()

    def _responses(self, resume_token: str) -> Iterator[watch_pb2.WatchCampaignResponse]:
        if not resume_token:
            yield watch_pb2.WatchCampaignResponse(
                snapshot=self.campaign, revision=1, resume_token="1"
            )
        after = int(resume_token or 1)
        for revision, changes in enumerate(self.changes, start=2):
            if revision > after:
                yield watch_pb2.WatchCampaignResponse(
                    changes=changes, revision=revision, resume_token=str(revision)
                )

    async def WatchCampaigns(
        self, request: Any, context: Any
    ) -> AsyncIterator[watch_pb2.WatchCampaignsResponse]:
        await self._begin(request, context)
        snapshot = watch_pb2.CampaignsSnapshot(campaigns=[self.campaign])
        yield watch_pb2.WatchCampaignsResponse(snapshot=snapshot)
        if self.cut_every:
            await context.abort(self.cut_code, "cut")
        await self.hang.wait()


def script_run(api: ScriptedApi, *, failed: int = 0) -> None:
    """Let the watch tell a run of three messages that ends."""
    ended = (
        campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS
        if failed
        else campaign_pb2.CAMPAIGN_STATUS_COMPLETE
    )
    running = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
    for status, counts in (
        (running, campaign_pb2.StatusCounts(queued=3, total=3)),
        (running, campaign_pb2.StatusCounts(sending=1, sent=2, total=3)),
        (running, campaign_pb2.StatusCounts(sent=1, delivered=2, total=3)),
        (ended, campaign_pb2.StatusCounts(delivered=3 - failed, failed=failed, total=3)),
    ):
        change = watch_pb2.MessageChange(number=1, status=message_pb2.MESSAGE_STATUS_SENT)
        api.changes.append(
            watch_pb2.CampaignChanges(messages=[change], counts=counts, status=status)
        )


def _message(number: int) -> message_pb2.Message:
    return message_pb2.Message(
        campaign_id=CAMPAIGN_ID,
        number=number,
        recipient=f"+1415555010{number}",
        status=message_pb2.MESSAGE_STATUS_DELIVERED,
    )


async def _abort(context: Any, error: OutreachError) -> NoReturn:
    status = to_status(error, request_id="request-1")
    details = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(status_code_of(error.reason), error.text, details)
    raise AssertionError("abort raises")


@asynccontextmanager
async def serving_scripted(api: ScriptedApi, port: int = 0) -> AsyncIterator[str]:
    """Serve it on a free port, or on this one; the address."""
    server = grpc.aio.server()
    attachment_pb2_grpc.add_AttachmentServiceServicer_to_server(api, server)
    campaign_pb2_grpc.add_CampaignServiceServicer_to_server(api, server)
    contact_pb2_grpc.add_ContactServiceServicer_to_server(api, server)
    message_pb2_grpc.add_MessageServiceServicer_to_server(api, server)
    suppression_pb2_grpc.add_SuppressionServiceServicer_to_server(api, server)
    test_send_pb2_grpc.add_TestSendServiceServicer_to_server(api, server)
    watch_pb2_grpc.add_WatchServiceServicer_to_server(api, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        api.hang.set()
        await server.stop(grace=0)

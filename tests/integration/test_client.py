from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import stamina.instrumentation

from outreach.client import CallError, OutreachClient, Timeouts
from outreach.client.uploads import CHUNK_BYTES_MAX
from outreach.errors import OutreachError, Violation
from outreach.v1 import campaign_pb2, message_pb2, watch_pb2
from tests.scripted_api import API_KEY, CAMPAIGN_ID, ScriptedApi, script_run, serving_scripted
from tests.waiting import eventually

UNAVAILABLE = OutreachError("STORE_UNAVAILABLE", "Not now.")


@pytest.fixture(autouse=True)
def _quiet_retries() -> None:
    stamina.instrumentation.set_on_retry_hooks([])


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
async def client(api: ScriptedApi) -> AsyncIterator[OutreachClient]:
    timeouts = Timeouts(retry_seconds_max=60.0, call_seconds=60.0)
    async with (
        serving_scripted(api) as address,
        OutreachClient(address, API_KEY, timeouts=timeouts) as client,
    ):
        yield client


async def test_sends_the_key_and_what_was_given(api: ScriptedApi, client: OutreachClient) -> None:
    sms = campaign_pb2.SmsContent(body="Hi")
    campaign = await client.create_campaign(name="Autumn", sms=sms)
    assert campaign.id == CAMPAIGN_ID
    (request,) = api.requests
    assert request.campaign.name == "Autumn"
    assert request.campaign.sms.body == "Hi"
    assert len(request.request_id) == 36


async def test_repeats_with_the_same_request_id_while_unavailable(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]
    await client.run_campaign(CAMPAIGN_ID, accepted_disclaimer_version="v1")
    assert len(api.requests) == 3
    assert len({request.request_id for request in api.requests}) == 1


async def test_another_call_has_another_request_id(
    api: ScriptedApi, client: OutreachClient
) -> None:
    for _ in range(2):
        await client.run_campaign(CAMPAIGN_ID, accepted_disclaimer_version="v1")
    assert len({request.request_id for request in api.requests}) == 2


@pytest.mark.parametrize(
    "failure",
    [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        OutreachError("CHANNEL_BUSY", "Busy.", metadata={"running_campaign_id": "x"}),
    ],
)
async def test_nothing_but_unavailable_is_repeated(
    api: ScriptedApi, client: OutreachClient, failure: OutreachError | grpc.StatusCode
) -> None:
    api.failures = [failure]
    with pytest.raises(CallError):
        await client.run_campaign(CAMPAIGN_ID, accepted_disclaimer_version="v1")
    assert len(api.requests) == 1


async def test_gives_up_repeating_at_its_limit(api: ScriptedApi) -> None:
    api.failures = [UNAVAILABLE] * 1_000
    timeouts = Timeouts(retry_seconds_max=3.0)
    async with (
        serving_scripted(api) as address,
        OutreachClient(address, API_KEY, timeouts=timeouts) as client,
    ):
        with pytest.raises(CallError) as caught:
            await client.get_campaign(CAMPAIGN_ID)
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert 1 < len(api.requests) < 1_000


async def test_a_refusal_carries_reason_metadata_and_fields(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [
        OutreachError.invalid(Violation("campaign.name", "FIELD_REQUIRED", "Give a name."))
    ]
    with pytest.raises(CallError) as caught:
        await client.create_campaign(name="")
    error = caught.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.reason, error.text) == ("INVALID_REQUEST", "Give a name.")
    assert error.violations == (Violation("campaign.name", "FIELD_REQUIRED", "Give a name."),)
    assert error.metadata["request_id"] == "request-1"


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    timeouts = Timeouts(retry_seconds_max=0.2)
    async with OutreachClient("127.0.0.1:1", API_KEY, timeouts=timeouts) as client:
        with pytest.raises(CallError) as caught:
            await client.get_campaign(CAMPAIGN_ID)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.reason == "UNAVAILABLE"


async def test_a_wrong_key_is_told(api: ScriptedApi) -> None:
    async with serving_scripted(api) as address, OutreachClient(address, "wrong") as client:
        with pytest.raises(CallError) as caught:
            await client.get_campaign(CAMPAIGN_ID)
    assert caught.value.reason == "CREDENTIAL_INVALID"


async def test_update_masks_what_is_given(api: ScriptedApi, client: OutreachClient) -> None:
    await client.update_campaign(CAMPAIGN_ID, name="", etag="e1")
    (request,) = api.requests
    assert list(request.update_mask.paths) == ["name"]
    assert request.campaign.etag == "e1"


async def test_lists_go_through_every_page(api: ScriptedApi, client: OutreachClient) -> None:
    campaigns = [campaign.id[-1] async for campaign in client.all_campaigns(name_contains="x")]
    assert campaigns == [str(number) for number in range(6)]
    messages = [message.number async for message in client.all_messages(CAMPAIGN_ID)]
    assert messages == [1, 2, 3, 4]
    problems = [problem.row async for problem in client.all_contact_problems(CAMPAIGN_ID)]
    assert problems == [3, 3]


@pytest.mark.parametrize("kind", ["path", "bytes", "iterator"])
async def test_uploads_in_chunks_and_tells_progress(
    api: ScriptedApi, client: OutreachClient, tmp_path: Path, kind: str
) -> None:
    content = bytes(range(256)) * 1_200
    told: list[tuple[int, int | None]] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield content[:100_000]
        yield content[100_000:]

    path = tmp_path / "contacts.csv"
    path.write_bytes(content)
    source = {"path": path, "bytes": content, "iterator": pieces()}[kind]
    upload = await client.upload_contacts(
        CAMPAIGN_ID,
        source,  # type: ignore[arg-type] # one of the three kinds
        consent_confirmed=True,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert upload.size_bytes == len(content)
    assert api.file == content
    assert api.upload_chunk_bytes_max == CHUNK_BYTES_MAX
    header = api.requests[0].header
    assert header.consent_confirmed
    assert header.file_name == "contacts.csv"
    total = None if kind == "iterator" else len(content)
    assert header.size_bytes == (total or 0)
    assert told[-1] == (len(content), total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


async def test_an_upload_starts_again_when_unavailable(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [UNAVAILABLE]
    await client.upload_contacts(CAMPAIGN_ID, b"phone\r\n+1", consent_confirmed=True)
    assert len(api.requests) == 2
    assert api.file == b"phone\r\n+1"


async def test_an_iterator_is_uploaded_once(api: ScriptedApi, client: OutreachClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"phone\r\n"

    api.failures = [UNAVAILABLE]
    with pytest.raises(CallError):
        await client.upload_contacts(CAMPAIGN_ID, pieces(), consent_confirmed=True)
    assert len(api.requests) == 1


async def test_an_upload_refused_at_its_header_ends_there(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [OutreachError("CONSENT_NOT_CONFIRMED", "No consent.")]
    with pytest.raises(CallError) as caught:
        await client.upload_contacts(CAMPAIGN_ID, b"x" * 5_000_000, consent_confirmed=False)
    assert caught.value.reason == "CONSENT_NOT_CONFIRMED"
    assert api.file == b""


async def test_every_refusal_of_an_upload_is_told_whenever_it_comes(
    api: ScriptedApi, client: OutreachClient, tmp_path: Path
) -> None:
    """Seen: a file still being read at the refusal made a fault of it, a lost status too."""
    path = tmp_path / "contacts.csv"
    path.write_bytes(b"x" * 600_000)
    for _ in range(60):
        # Always one more, for the repeat of an upload whose refusal gRPC lost.
        api.failures = [OutreachError("FILE_NOT_CSV", "No CSV.")] * 20
        with pytest.raises(CallError) as caught:
            await client.upload_contacts(CAMPAIGN_ID, path, consent_confirmed=True)
        assert caught.value.reason == "FILE_NOT_CSV"


async def test_an_unreadable_source_is_the_callers_error(client: OutreachClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"phone\r\n"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await client.upload_contacts(CAMPAIGN_ID, pieces(), consent_confirmed=True)


async def test_an_import_goes_on_with_its_request_id(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [grpc.StatusCode.UNAVAILABLE]
    rows: list[int] = []
    result = await client.import_contacts(
        CAMPAIGN_ID, "upload-1", on_progress=lambda told: rows.append(told.rows)
    )
    assert result.campaign.contacts.imported == 3
    assert rows == [1, 1]
    assert len({request.request_id for request in api.requests}) == 1


async def test_downloads_the_problems(client: OutreachClient) -> None:
    content = b"".join([chunk async for chunk in client.download_contact_problems(CAMPAIGN_ID)])
    assert content.splitlines() == [b"row,column,reason,description", b"3,phone,X,Y"]


async def test_a_test_send_is_repeated_as_the_same_one(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [UNAVAILABLE]
    test = await client.create_test_send(CAMPAIGN_ID, ["+14155550100"], values={"name": "Ada"})
    assert test.id == "test-1"
    first, second = api.requests
    assert first == second
    assert len(first.request_id) == 36
    assert list(first.recipients) == ["+14155550100"]
    assert dict(first.values) == {"name": "Ada"}
    await client.get_test_send("test-1")
    assert api.requests[2].id == "test-1"


async def test_preview_by_number_or_by_values(api: ScriptedApi, client: OutreachClient) -> None:
    await client.preview_campaign(CAMPAIGN_ID, message_number=7)
    await client.preview_campaign(CAMPAIGN_ID, variables={"name": "Ada"})
    by_number, by_values = api.requests
    assert by_number.message_number == 7
    assert dict(by_values.values.variables) == {"name": "Ada"}


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    ],
)
async def test_a_watch_that_is_cut_misses_nothing_and_repeats_nothing(
    api: ScriptedApi, client: OutreachClient, code: grpc.StatusCode
) -> None:
    script_run(api)
    api.cut_every, api.cut_code = 1, code
    cuts: list[CallError] = []
    revisions = []
    async for response in client.watch_campaign(CAMPAIGN_ID, on_reconnect=cuts.append):
        revisions.append(response.revision)
        if response.revision == 5:
            break
    assert revisions == [1, 2, 3, 4, 5]
    assert [cut.code for cut in cuts] == [code] * 4
    assert [request.resume_token for request in api.requests] == ["", "1", "2", "3", "4"]


async def test_a_watch_goes_on_from_a_given_token(api: ScriptedApi, client: OutreachClient) -> None:
    script_run(api)
    watch = client.watch_campaign(CAMPAIGN_ID, resume_token="3", include_messages=True)
    response = await anext(watch)
    assert response.revision == 4
    assert api.requests[0].include_messages
    await watch.aclose()


async def test_a_watch_outlives_a_service_that_starts_again(api: ScriptedApi) -> None:
    script_run(api)
    del api.changes[2:]
    async with serving_scripted(api) as address:
        client = OutreachClient(address, API_KEY)
        watch = client.watch_campaign(CAMPAIGN_ID)
        before = [(await anext(watch)).revision for _ in range(3)]
    port = int(address.rpartition(":")[2])
    later = asyncio.ensure_future(anext(watch))
    script_run(api)
    api.hang = asyncio.Event()
    async with serving_scripted(api, port):
        after = (await later).revision
        await watch.aclose()
        await client.close()
    assert [*before, after] == [1, 2, 3, 4]


async def test_an_expired_token_is_the_callers_to_handle(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [OutreachError("RESUME_TOKEN_EXPIRED", "Too old.")]
    with pytest.raises(CallError) as caught:
        await anext(client.watch_campaign(CAMPAIGN_ID, resume_token="1"))
    assert caught.value.reason == "RESUME_TOKEN_EXPIRED"


async def test_a_watch_of_a_campaign_that_is_not_there_ends(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.failures = [OutreachError("CAMPAIGN_NOT_FOUND", "No such campaign.")]
    with pytest.raises(CallError) as caught:
        await anext(client.watch_campaign(CAMPAIGN_ID))
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_a_silent_stream_is_opened_anew(api: ScriptedApi) -> None:
    timeouts = Timeouts(silence_seconds_max=1.0)
    cuts: list[CallError] = []
    async with (
        serving_scripted(api) as address,
        OutreachClient(address, API_KEY, timeouts=timeouts) as client,
    ):
        watch = client.watch_campaign(CAMPAIGN_ID, on_reconnect=cuts.append)
        assert (await anext(watch)).revision == 1
        later = asyncio.ensure_future(anext(watch))
        await eventually(lambda: len(api.requests) >= 2)
        script_run(api)
        assert (await later).revision == 2
        await watch.aclose()
    assert cuts[0].code is grpc.StatusCode.UNAVAILABLE


async def test_cancelling_the_reader_ends_the_watch(
    api: ScriptedApi, client: OutreachClient
) -> None:
    started = asyncio.Event()

    async def read() -> None:
        async for _ in client.watch_campaign(CAMPAIGN_ID):
            started.set()

    task = asyncio.ensure_future(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_running_campaigns_come_again_as_a_snapshot(
    api: ScriptedApi, client: OutreachClient
) -> None:
    api.cut_every = 1
    seen: list[watch_pb2.WatchCampaignsResponse] = []
    async for response in client.watch_campaigns():
        seen.append(response)
        if len(seen) == 3:
            break
    assert [response.WhichOneof("event") for response in seen] == ["snapshot"] * 3


async def test_a_message_by_its_number(client: OutreachClient) -> None:
    message = await client.get_message(CAMPAIGN_ID, 2)
    assert message.number == 2
    assert message.status == message_pb2.MESSAGE_STATUS_DELIVERED

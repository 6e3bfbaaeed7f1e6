"""Provider accounts: set up from settings, given to senders, and what senders find out about them."""

import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from outreach.errors import OutreachError
from outreach.internal.v1 import delivery_pb2 as pb
from outreach.organisations import organisation_id
from outreach.rpc.errors import from_status
from outreach.v1 import channel_pb2
from outreach.vocabulary import Channel
from services.campaign.bootstrap import bootstrap
from services.campaign.delivery import servicer as module
from services.campaign.settings import Settings
from tests.campaign_data import recipient, running_campaign
from tests.campaign_service import settings
from tests.delivery_rig import SECRET_KEY, Rig, delivery_rig

SMS, EMAIL = channel_pb2.CHANNEL_SMS, channel_pb2.CHANNEL_EMAIL
API_KEY = "SG.of-the-tests.not-a-secret"
ORGANISATION = organisation_id("Example")


@pytest.fixture
async def rig(database_dsn: str) -> AsyncIterator[Rig]:
    async with delivery_rig(database_dsn) as rig:
        yield rig


def public_key() -> str:
    """As SendGrid shows its verification key."""
    return _base64(ec.generate_private_key(ec.SECP256R1()).public_key())


def _base64(key: Any) -> str:
    return base64.b64encode(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()


def given(**changes: Any) -> Settings:
    return settings(
        "postgres://unused",
        **{
            "secret_key": SECRET_KEY,
            "bootstrap_organisation_name": "Example",
            "bootstrap_api_key": "an api key of the tests, long enough",
            "bootstrap_sendgrid_api_key": API_KEY,
            **changes,
        },
    )


async def set_up(rig: Rig, **changes: Any) -> None:
    """The campaign service starts with these settings."""
    configured = given(**changes)
    await bootstrap(rig.pool, configured, configured.secrets())


async def account(
    rig: Rig, channel: Any = EMAIL, organisation: UUID = ORGANISATION
) -> pb.ProviderAccount:
    request = pb.GetProviderAccountRequest(organisation_id=str(organisation), channel=channel)
    answer: pb.ProviderAccount = await rig.stub.GetProviderAccount(request, metadata=rig.metadata)
    return answer


async def stored(rig: Rig) -> asyncpg.Record:
    row: asyncpg.Record | None = await rig.pool.fetchrow(
        "SELECT * FROM provider_account WHERE organisation_id = $1 AND channel = 2", ORGANISATION
    )
    assert row is not None
    return row


async def checked(rig: Rig, **more: Any) -> None:
    """A sender tells what it found out."""
    request = {"organisation_id": str(ORGANISATION), "channel": EMAIL, **more}
    await rig.stub.ReportAccountCheck(
        pb.ReportAccountCheckRequest(**request), metadata=rig.metadata
    )


async def refused(call: Any) -> OutreachError:
    with pytest.raises(grpc.aio.AioRpcError) as info:
        await call
    return from_status(info.value)


async def test_the_sendgrid_account_of_the_settings_is_stored_encrypted_and_given_to_senders(
    rig: Rig,
) -> None:
    key = public_key()
    await set_up(
        rig,
        bootstrap_sendgrid_webhook_public_key=key,
        bootstrap_sendgrid_push_suppressions=True,
        bootstrap_emails_per_second_max=250,
    )
    assert await account(rig) == pb.ProviderAccount(
        organisation_id=str(ORGANISATION),
        sendgrid=pb.SendGridAccount(
            api_key=API_KEY, webhook_public_key=key, push_suppressions=True
        ),
    )
    row = await stored(rig)
    assert API_KEY.encode() not in row["secret"]
    assert API_KEY not in row["settings"]
    assert row["segments_per_second_max"] == 250
    assert row["check_time"] is None
    assert (await refused(account(rig, SMS))).reason == "CHANNEL_NOT_CONFIGURED"
    assert (await refused(account(rig, EMAIL, uuid4()))).reason == "CHANNEL_NOT_CONFIGURED"


async def test_without_more_than_a_key_the_rest_is_left_to_sendgrid(rig: Rig) -> None:
    await set_up(rig)
    assert (await account(rig)).sendgrid == pb.SendGridAccount(api_key=API_KEY)
    assert (await stored(rig))["segments_per_second_max"] is None


async def test_both_channels_beside_each_other(rig: Rig) -> None:
    await set_up(
        rig,
        bootstrap_twilio_account_sid="AC1",
        bootstrap_twilio_auth_token="a token",
        bootstrap_twilio_from="+15005550006",
        bootstrap_segments_per_second_max=7,
    )
    twilio = (await account(rig, SMS)).twilio
    assert (twilio.account_sid, twilio.auth_token) == ("AC1", "a token")
    assert getattr(twilio.sender, "from") == "+15005550006"
    assert (await account(rig)).sendgrid.api_key == API_KEY


async def test_what_was_found_out_stays_until_the_credentials_are_others(rig: Rig) -> None:
    await set_up(rig)
    await checked(rig, sender_addresses=["a@example.com"], sender_domains=["x.example"], fault="?")
    before = await stored(rig)
    await set_up(rig, bootstrap_emails_per_second_max=9, bootstrap_sendgrid_push_suppressions=True)
    after = await stored(rig)
    for column in ("sender_addresses", "sender_domains", "check_fault", "check_time"):
        assert after[column] == before[column], column
    assert after["segments_per_second_max"] == 9
    await set_up(rig, bootstrap_sendgrid_api_key="SG.another.key")
    row = await stored(rig)
    assert (row["sender_addresses"], row["sender_domains"], row["check_fault"]) == ([], [], "")
    assert row["check_time"] is None
    assert (await account(rig)).sendgrid.api_key == "SG.another.key"


async def test_an_account_stored_under_a_lost_secret_key_is_stored_anew(rig: Rig) -> None:
    await set_up(rig, secret_key="a former secret key, 32 characters")
    await checked(rig, sender_addresses=["a@example.com"])
    await set_up(rig)
    assert (await account(rig)).sendgrid.api_key == API_KEY
    assert (await stored(rig))["check_time"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"bootstrap_organisation_name": None, "bootstrap_api_key": None},
        {"bootstrap_sendgrid_api_key": None, "bootstrap_sendgrid_webhook_public_key": public_key()},
        {"bootstrap_sendgrid_api_key": ""},
        {"bootstrap_sendgrid_api_key": "SG.a\r\nX-Header: 1"},
        {"bootstrap_sendgrid_api_key": "SG.ключ"},
        {"bootstrap_sendgrid_webhook_public_key": "no key"},
        {"bootstrap_sendgrid_webhook_public_key": "bm8ga2V5"},
        {
            "bootstrap_sendgrid_webhook_public_key": _base64(
                ed25519.Ed25519PrivateKey.generate().public_key()
            )
        },
        {"bootstrap_emails_per_second_max": 0},
        {"email_timed_out_after_seconds": 0},
        {"email_look_up_after_seconds": -1},
    ],
)
def test_settings_that_can_not_be_are_refused_and_not_shown(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as info:
        given(**changes)
    for value in changes.values():
        if isinstance(value, str) and len(value) > 3:
            assert value not in str(info.value)


def test_what_is_empty_in_the_environment_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's environment names every setting that it may be given."""
    for name, value in {
        "POSTGRES_DSN": "postgres://unused",
        "NATS_URL": "nats://unused",
        "SECRET_KEY": SECRET_KEY,
        "INTERNAL_TOKEN": "a token",
        "BOOTSTRAP_SENDGRID_API_KEY": "",
        "BOOTSTRAP_SENDGRID_WEBHOOK_PUBLIC_KEY": "",
        "BOOTSTRAP_EMAILS_PER_SECOND_MAX": "",
    }.items():
        monkeypatch.setenv(f"OUTREACH_{name}", value)
    assert Settings().bootstrap_sendgrid_api_key is None
    monkeypatch.setenv("OUTREACH_SECRET_KEY", "")
    with pytest.raises(ValidationError):
        Settings()


async def test_senders_learn_whose_accounts_to_check(rig: Rig) -> None:
    async def listed(channel: Any) -> list[str]:
        request = pb.ListProviderAccountsRequest(channel=channel)
        answer = await rig.stub.ListProviderAccounts(request, metadata=rig.metadata)
        return list(answer.organisation_ids)

    assert await listed(EMAIL) == []
    await set_up(rig)
    await set_up(rig, bootstrap_organisation_name="Another", bootstrap_api_key="y" * 32)
    assert await listed(EMAIL) == sorted([str(ORGANISATION), str(organisation_id("Another"))])
    assert await listed(SMS) == []
    for channel in (0, 9):
        assert (await refused(listed(channel))).reason == "INVALID_REQUEST"


async def test_the_latest_check_counts_and_is_stored_as_addresses_are_compared(rig: Rig) -> None:
    await set_up(rig)
    await checked(rig, fault="The key may not send mail.")
    row = await stored(rig)
    assert (row["check_fault"], row["sender_addresses"]) == ("The key may not send mail.", [])
    first = row["check_time"]
    assert first is not None
    for _ in range(2):
        await checked(
            rig,
            sender_addresses=["Campaigns@Example.com", "b@example.com", "campaigns@example.com"],
            sender_domains=["Mail.EXAMPLE", ""],
        )
    row = await stored(rig)
    assert row["sender_addresses"] == ["b@example.com", "campaigns@example.com"]
    assert row["sender_domains"] == ["mail.example"]
    assert row["check_fault"] == ""
    assert row["check_time"] > first


async def test_where_the_key_may_not_list_its_senders_nothing_is_known_of_them(rig: Rig) -> None:
    """Empty lists would refuse every sender."""
    await set_up(rig)
    await checked(rig, sender_addresses=["a@example.com"], fault="The key is refused.")
    await checked(rig, senders_unknown=True)
    row = await stored(rig)
    assert (row["sender_addresses"], row["check_time"], row["check_fault"]) == ([], None, "")


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"organisation_id": "x"}, "INVALID_REQUEST", "organisation_id"),
        ({"channel": 0}, "INVALID_REQUEST", "channel"),
        (
            {"sender_addresses": ["a@x"] * (module.SENDERS_MAX + 1)},
            "INVALID_REQUEST",
            "sender_addresses",
        ),
        ({"sender_domains": ["x"] * (module.SENDERS_MAX + 1)}, "INVALID_REQUEST", "sender_domains"),
        ({"organisation_id": str(uuid4())}, "CHANNEL_NOT_CONFIGURED", None),
        ({"channel": SMS}, "CHANNEL_NOT_CONFIGURED", None),
    ],
)
async def test_a_check_that_can_not_be_stored_is_refused_and_changes_nothing(
    rig: Rig, changes: dict[str, Any], reason: str, field: str | None
) -> None:
    await set_up(rig)
    before = await stored(rig)
    error = await refused(checked(rig, **changes))
    assert error.reason == reason
    assert [violation.field for violation in error.violations] == ([field] if field else [])
    assert await stored(rig) == before


async def test_the_most_that_a_check_may_hold_is_stored(rig: Rig) -> None:
    await set_up(rig)
    addresses = [f"{n:05}{'a' * 237}@example.com" for n in range(module.SENDERS_MAX)]
    assert max(map(len, addresses)) == module.SENDER_CHARS_MAX
    await checked(rig, sender_addresses=addresses, sender_domains=addresses)
    row = await stored(rig)
    assert row["sender_addresses"] == row["sender_domains"] == addresses


async def test_words_of_a_provider_that_can_not_be_stored_do_not_cost_the_check(rig: Rig) -> None:
    await set_up(rig)
    await checked(
        rig,
        sender_addresses=["a@example.com", "y" * 255, "b\0@example.com", ""],
        sender_domains=["z" * 255],
        fault="It says: \0" + "x" * 1_000,
    )
    row = await stored(rig)
    assert (row["sender_addresses"], row["sender_domains"]) == (["a@example.com"], [])
    assert row["check_fault"] == ("It says: " + "x" * 1_000)[: module.CHECK_FAULT_CHARS_MAX]


async def test_a_recipient_is_told_for_a_message_that_there_is(rig: Rig) -> None:
    campaign = await running_campaign(rig.pool, 2, channel=Channel.EMAIL)

    async def told(campaign_id: object, number: int) -> str:
        request = pb.GetRecipientRequest(campaign_id=str(campaign_id), number=number)
        answer = await rig.stub.GetRecipient(request, metadata=rig.metadata)
        return str(answer.recipient)

    assert await told(campaign.campaign_id, 2) == recipient(2, Channel.EMAIL)
    for campaign_id, number in ((campaign.campaign_id, 3), (campaign.campaign_id, 0), (uuid4(), 1)):
        assert (await refused(told(campaign_id, number))).reason == "MESSAGE_NOT_FOUND"
    assert (await refused(told("x", 1))).reason == "INVALID_REQUEST"
    await rig.pool.execute("DELETE FROM campaign")
    assert (await refused(told(campaign.campaign_id, 2))).reason == "MESSAGE_NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ListProviderAccounts", pb.ListProviderAccountsRequest(channel=EMAIL)),
        ("ReportAccountCheck", pb.ReportAccountCheckRequest(channel=EMAIL)),
        ("GetRecipient", pb.GetRecipientRequest(number=1)),
        ("GetProviderAccount", pb.GetProviderAccountRequest(channel=EMAIL)),
    ],
)
async def test_nobody_is_answered_without_the_internal_token(
    rig: Rig, method: str, request_: Any
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as info:
        await getattr(rig.stub, method)(request_)
    assert info.value.code() is grpc.StatusCode.UNAUTHENTICATED

"""Contents and their attachments over real gRPC: fetched once, checked, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.rpc.channel import bearer, create_channel
from outreach.sending.contents import Accounts, AttachmentFault, PreparedCampaigns
from outreach.sending.provider import CampaignNotSendable
from outreach.vocabulary import Channel, FailureReason
from tests.campaign_double import TOKEN
from tests.email_campaign_double import EmailCampaignDouble
from tests.unit.test_sending_divided import ScriptedProvider


@dataclass(frozen=True)
class Prepared:
    api_key: str
    attachments: Sequence[bytes]


class PreparingProvider(ScriptedProvider):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = 0
        self.refuses = False

    def prepare(  # type: ignore[override]  # prepares what can be looked at
        self,
        content: delivery_pb2.CampaignContent,
        account: delivery_pb2.ProviderAccount,
        attachments: Sequence[bytes],
    ) -> Prepared:
        if self.refuses:
            raise CampaignNotSendable(FailureReason.CONTENT_REJECTED)
        self.prepared += 1
        return Prepared(account.sendgrid.api_key, attachments)


@dataclass
class Rig:
    campaign: EmailCampaignDouble
    provider: PreparingProvider
    accounts: Accounts
    campaigns: PreparedCampaigns[Prepared]

    async def get(self, content_hash: str = "one", *, for_sending: bool = True) -> Prepared:
        return await self.campaigns.get(
            self.campaign.organisation_id,
            str(self.campaign.campaign_id),
            content_hash,
            for_sending=for_sending,
        )


@asynccontextmanager
async def rig_of(*, bytes_max: int = 10_000_000) -> AsyncIterator[Rig]:
    campaign = EmailCampaignDouble()
    # more than a chunk, and not a whole number of them
    campaign.attachments = {"large": bytes(range(256)) * 10_000, "small": b"small", "none": b""}
    provider = PreparingProvider()
    async with campaign.serving() as address:
        channel = create_channel(address)
        accounts = Accounts(channel, bearer(TOKEN), Channel.EMAIL)
        campaigns = PreparedCampaigns[Prepared](
            channel,
            bearer(TOKEN),
            accounts,
            provider,  # type: ignore[arg-type]  # sends nothing in these tests
            bytes_max=bytes_max,
        )
        try:
            yield Rig(campaign, provider, accounts, campaigns)
        finally:
            await channel.close()


async def test_all_who_ask_at_once_get_what_one_of_them_fetched() -> None:
    async with rig_of() as rig:
        got = await asyncio.gather(*(rig.get() for _ in range(20)))
        assert all(one is got[0] for one in got)
        assert list(got[0].attachments) == list(rig.campaign.attachments.values())
        assert (rig.campaign.content_calls, rig.provider.prepared) == (1, 1)
        assert rig.campaign.attachment_calls == ["large", "small", "none"]
        assert rig.campaign.account_calls == 1


@pytest.mark.parametrize("lie", ["checksum", "longer", "shorter", "missing"])
async def test_what_is_not_the_named_attachment_is_a_fault_and_tried_again(
    lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig_of() as rig:
        campaign = rig.campaign
        true_content = campaign.content()
        attachments = dict(campaign.attachments)
        with monkeypatch.context() as lying:
            lying.setattr(campaign, "content", lambda: true_content)
            match lie:
                case "checksum":
                    campaign.attachments["large"] = attachments["large"][::-1]
                case "longer":
                    campaign.attachments["large"] = attachments["large"] + b"x"
                case "shorter":
                    campaign.attachments["large"] = attachments["large"][:-1]
                case "missing":
                    del campaign.attachments["large"]
            for _ in range(2):
                with pytest.raises(AttachmentFault):
                    await rig.get()
            assert rig.provider.prepared == 0
        campaign.attachments = attachments
        assert list((await rig.get()).attachments) == list(attachments.values())


async def test_a_look_up_needs_no_attachments_and_a_send_after_it_does() -> None:
    async with rig_of() as rig:
        assert list((await rig.get(for_sending=False)).attachments) == []
        assert rig.campaign.attachment_calls == []
        whole = await rig.get()
        assert len(whole.attachments) == 3
        assert await rig.get(for_sending=False) is whole
        assert await rig.get() is whole
        assert (rig.campaign.content_calls, len(rig.campaign.attachment_calls)) == (2, 3)


async def test_what_was_used_longest_ago_goes_when_too_many_bytes_are_kept() -> None:
    size = 256 * 10_000
    async with rig_of(bytes_max=2 * size + size // 2) as rig:
        for name in ("one", "two"):
            await rig.get(name)
        assert rig.campaign.content_calls == 2
        await rig.get("one")
        assert rig.campaign.content_calls == 2, "both are kept"
        await rig.get("three")
        await rig.get("one")
        assert rig.campaign.content_calls == 3
        await rig.get("two")
        assert rig.campaign.content_calls == 4, "it had to go for the third"


async def test_a_content_larger_than_the_bound_is_kept_while_it_is_the_only_one() -> None:
    async with rig_of(bytes_max=1_000) as rig:
        await rig.get("one")
        await rig.get("one")
        assert rig.campaign.content_calls == 1
        await rig.get("two")
        await rig.get("two")
        assert rig.campaign.content_calls == 2


async def test_another_account_makes_it_anew() -> None:
    async with rig_of() as rig:
        first = await rig.get()
        rig.accounts.forget(rig.campaign.organisation_id)
        assert await rig.get() is first, "asked for again, and the same"
        rig.campaign.api_key = "SG.rotated"
        rig.accounts.forget(rig.campaign.organisation_id)
        assert (await rig.get()).api_key == "SG.rotated"
        assert rig.provider.prepared == 2


async def test_a_content_that_can_not_be_sent_is_asked_for_again() -> None:
    async with rig_of() as rig:
        rig.provider.refuses = True
        with pytest.raises(CampaignNotSendable):
            await rig.get()
        rig.provider.refuses = False
        assert len((await rig.get()).attachments) == 3

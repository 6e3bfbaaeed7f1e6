"""Email campaigns of the running service, for tests of what is about them."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from outreach.v1 import campaign_pb2, channel_pb2
from outreach.vocabulary import Channel
from tests.campaign_service import Service, Tenant

LINK = '<a href="{{unsubscribe_url}}">Unsubscribe</a>'
FROM = campaign_pb2.EmailAddress(address="news@example.com", display_name="News")


def email_content(**fields: Any) -> campaign_pb2.EmailContent:
    """A finished one that uses `name`, but for what is given (`from_`: the sender)."""
    sender = fields.pop("from_", FROM)
    if not {"html", "mjml", "blocks"} & set(fields):
        fields["html"] = f"<p>Hello {{{{name}}}}</p>{LINK}"
    content = campaign_pb2.EmailContent(**{"subject": "Hi {{name}}", **fields})
    if sender is not None:
        getattr(content, "from").CopyFrom(sender)
    return content


async def email_tenant(service: Service, **terms: Any) -> Tenant:
    """An organisation that may send email only."""
    return await service.tenant(channels=(Channel.EMAIL,), **terms)


async def create_email(
    tenant: Tenant, content: campaign_pb2.EmailContent | None = None, **fields: Any
) -> campaign_pb2.Campaign:
    """A new email campaign; `fields` are those of the campaign."""
    email = email_content() if content is None else content
    return await tenant.create(sms=None, channel=channel_pb2.CHANNEL_EMAIL, email=email, **fields)


async def ready_email(
    service: Service,
    tenant: Tenant,
    content: campaign_pb2.EmailContent | None = None,
    variables: Sequence[Sequence[str | None]] = (("Ada",), ("Grace",), (None,)),
    names: Sequence[str] = ("name",),
    **fields: Any,
) -> campaign_pb2.Campaign:
    """An email campaign with contacts contact1@example.com and up."""
    campaign = await create_email(tenant, content, **fields)
    await service.put_contacts(tenant, campaign.id, variables, names)
    return await tenant.get(campaign.id)


async def update_email(
    tenant: Tenant,
    campaign_id: str,
    *paths: str,
    content: campaign_pb2.EmailContent | None = None,
    validate_only: bool = False,
    **fields: Any,
) -> campaign_pb2.Campaign:
    """Change these paths, to those of `content` and `fields`."""
    request = campaign_pb2.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=campaign_id, email=content, **fields),
        update_mask=FieldMask(paths=paths),
        validate_only=validate_only,
    )
    changed: campaign_pb2.Campaign = await tenant.call(tenant.campaigns.UpdateCampaign, request)
    return changed


async def checked(
    service: Service,
    tenant: Tenant,
    *,
    addresses: Sequence[str] = (),
    domains: Sequence[str] = (),
    fault: str = "",
) -> None:
    """What the sender found out about the organisation's account at its provider."""
    await service.pool.execute(
        "UPDATE provider_account SET sender_addresses = $2, sender_domains = $3, check_fault = $4, "
        "check_time = now() WHERE organisation_id = $1 AND channel = 2",
        tenant.organisation_id,
        list(addresses),
        list(domains),
        fault,
    )

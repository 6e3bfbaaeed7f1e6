"""What is too large for a call is named before it is sent."""

import grpc
import pytest
from google.protobuf.message import Message

from outreach.client.errors import CallError
from outreach.client.sizes import check_size
from outreach.rpc.options import MESSAGE_BYTES_MAX
from outreach.v1 import campaign_pb2

LARGE = "ä" * 2_200_000


def _create(**content: object) -> campaign_pb2.CreateCampaignRequest:
    email = campaign_pb2.EmailContent(**content)  # type: ignore[arg-type]  # the cases are tables
    campaign = campaign_pb2.Campaign(name="x", description="y" * 1_000, email=email)
    return campaign_pb2.CreateCampaignRequest(campaign=campaign, request_id="r" * 36)


def _blocks(count: int) -> campaign_pb2.EmailBlocks:
    span = campaign_pb2.TextSpan(text="x" * 1_000, bold=True)
    text = campaign_pb2.TextBlock(spans=[span] * 50)
    return campaign_pb2.EmailBlocks(blocks=[campaign_pb2.EmailBlock(text=text)] * count)


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (_create(html=LARGE), "campaign.email.html", "TEMPLATE_TOO_LONG"),
        (_create(mjml=LARGE, text="x"), "campaign.email.mjml", "TEMPLATE_TOO_LONG"),
        (_create(text=LARGE, html="x"), "campaign.email.text", "TEMPLATE_TOO_LONG"),
        (_create(blocks=_blocks(100)), "campaign.email.blocks", "TEMPLATE_TOO_LONG"),
        (_create(subject=LARGE), "campaign.email.subject", "FIELD_TOO_LONG"),
        (
            campaign_pb2.UpdateCampaignRequest(
                campaign=campaign_pb2.Campaign(sms=campaign_pb2.SmsContent(body=LARGE))
            ),
            "campaign.sms.body",
            "FIELD_TOO_LONG",
        ),
        (
            campaign_pb2.PreviewCampaignRequest(
                id="x", values=campaign_pb2.PreviewValues(variables={"a": LARGE, "b": "c"})
            ),
            "values.variables",
            "FIELD_TOO_LONG",
        ),
    ],
)
def test_the_field_and_the_limit_are_named(request_: Message, field: str, reason: str) -> None:
    with pytest.raises(CallError) as caught:
        check_size(request_)
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    (violation,) = error.violations
    assert (violation.field, violation.reason) == (field, reason)
    limit = "1,000,000" if reason == "TEMPLATE_TOO_LONG" else f"{MESSAGE_BYTES_MAX:,}"
    assert limit in violation.text
    assert not error.from_service


def test_what_a_call_carries_is_let_through() -> None:
    check_size(_create(html="x" * (MESSAGE_BYTES_MAX - 2_000)))
    check_size(campaign_pb2.GetDisclaimerRequest())

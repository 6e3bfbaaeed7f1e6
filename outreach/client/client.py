"""The client as one object."""

from outreach.client.attachments import AttachmentCalls
from outreach.client.campaigns import CampaignCalls
from outreach.client.contacts import ContactCalls
from outreach.client.exports import ExportCalls
from outreach.client.failures import FailureCalls
from outreach.client.messages import MessageCalls
from outreach.client.suppressions import SuppressionCalls
from outreach.client.test_sends import TestSendCalls
from outreach.client.watches import WatchCalls


class OutreachClient(
    CampaignCalls,
    ContactCalls,
    AttachmentCalls,
    MessageCalls,
    ExportCalls,
    SuppressionCalls,
    FailureCalls,
    TestSendCalls,
    WatchCalls,
):
    """Every call of the public API as a method; an async context manager.

    Made inside a running event loop and used from that loop only; one client may carry any number
    of calls at once.

        async with OutreachClient("127.0.0.1:50051", api_key) as client:
            page = await client.list_campaigns()

    Raises:
        CallError: from every method, for every refusal and failure.
    """

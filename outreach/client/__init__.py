"""The typed client of the public API, for other programs and for the `outreach` command.

    async with OutreachClient("127.0.0.1:50051", api_key) as client:
        campaign = await client.create_campaign(name="Autumn", sms=SmsContent(body="Hi {{name}}"))

Every answer is the message of `outreach.v1`; every refusal is a `CallError`.
"""

from outreach.client.client import OutreachClient
from outreach.client.connection import Timeouts
from outreach.client.errors import CallError

__all__ = ["CallError", "OutreachClient", "Timeouts"]

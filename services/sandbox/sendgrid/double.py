"""Puts the parts of the SendGrid half together."""

from collections.abc import Callable
from pathlib import Path

from services.sandbox.http import Answer, Request
from services.sandbox.journal import Journal
from services.sandbox.sendgrid.account import SendGridAccount
from services.sandbox.sendgrid.api import PATH_PREFIX, SendGridApi
from services.sandbox.sendgrid.control import SendGridControl
from services.sandbox.sendgrid.event_webhook import EventWebhook
from services.sandbox.sendgrid.fates import EmailFates
from services.sandbox.sendgrid.ledger import EmailLedger
from services.sandbox.sendgrid.resources import SendGridResources
from services.sandbox.sendgrid.signing import WebhookKey
from services.sandbox.webhooks import WebhookClient

# Longer than any limit that a knob may set: what is read of a request at most.
REQUEST_BYTES_MAX = 64 * 1024 * 1024


class SendGridDouble:
    """The API, its event webhook and its ledger.

    Args:
        data_dir: where journal and key are kept; none: they end with the process.
        event_url: where events are posted, unless the API is told another.
    """

    def __init__(
        self,
        account: SendGridAccount,
        data_dir: Path | None,
        client: WebhookClient,
        fates: Callable[[], EmailFates],
        event_url: str | None,
        connections_max: int,
    ) -> None:
        self._journal = Journal(data_dir and data_dir / "emails.jsonl")
        self.key = WebhookKey(data_dir and data_dir / "event-webhook-key.pem")
        self.ledger = EmailLedger(self._journal)
        self._webhook = EventWebhook(
            self.ledger, self.key, client, lambda: fates().knobs, event_url, connections_max
        )
        resources = SendGridResources(
            account, self.ledger, self._webhook, self.key, lambda: fates().knobs
        )
        self._api = SendGridApi(account, self.ledger, self._webhook, resources, fates)
        self.control = SendGridControl(self.ledger, self._webhook, self.key)
        self._webhook.resume()

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path is one of SendGrid's."""
        return path.startswith(PATH_PREFIX)

    async def handle(self, request: Request) -> Answer:
        """The answer of the API."""
        return await self._api.handle(request)

    async def run(self) -> None:
        """Post events until cancelled."""
        await self._webhook.run()

    def close(self) -> None:
        self._journal.close()

"""The examples of emails make campaigns that could be sent, through the command line."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outreach.cli.exit_codes import ExitCode
from outreach.v1 import campaign_pb2
from tests.campaign_service import Service, campaign_service
from tests.cli_rig import Cli
from tests.email_campaigns import email_tenant

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def service(database_dsn: str) -> AsyncIterator[Service]:
    async with campaign_service(database_dsn) as running:
        yield running


@pytest.mark.parametrize(
    ("option", "file"), [("--html-file", "email.html"), ("--blocks-file", "email_blocks.json")]
)
async def test_an_example_becomes_an_email(
    service: Service, option: str, file: str, tmp_path: Path
) -> None:
    tenant = await email_tenant(service)
    cli = Cli(service.public_address, tenant.key)
    created = await cli(
        *("campaign", "create", "--name", "Opening", "--channel", "email", "--json"),
        *("--subject", "{{first_name|Hello}}: we open in {{city|your city}}"),
        *("--from", "Example Coffee <coffee@example.com>", option, str(EXAMPLES / file)),
    )
    assert created.code == ExitCode.OK, created.err
    assert created.data["template_problems"] == []
    assert created.data["template_warnings"] == []
    campaign_id = created.data["id"]
    contacts: list[list[str | None]] = [["Ada", "Zürich"], [None, None]]
    await service.put_contacts(tenant, campaign_id, contacts, ("first_name", "city"))
    assert (await tenant.get(campaign_id)).status == campaign_pb2.CAMPAIGN_STATUS_READY
    for contact, (hello, city) in enumerate((("Ada", "Zürich"), ("there", "your city")), 1):
        path = tmp_path / f"{contact}.html"
        shown = await cli(
            *("campaign", "preview", campaign_id, "--contact", str(contact)),
            *("--html-file", str(path)),
        )
        assert shown.code == ExitCode.OK, shown.err
        html = path.read_text("utf-8")
        for text in (f"Hello {hello}", city, "https://outreach.invalid/unsubscribe/preview"):
            assert text in html
            assert text in shown.out
        assert "{{" not in html
        assert "Without a value" not in shown.err
    estimate = await cli("campaign", "estimate", campaign_id)
    assert estimate.code == ExitCode.OK
    assert "HTML" in estimate.out

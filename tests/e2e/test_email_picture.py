"""What a person sees of an email: rendered by a browser, from code and from blocks, with hostile
values. The pictures are for looking at (set OUTREACH_PICTURES_DIR to keep them); what a test can
tell is that nothing ran, nothing was fetched, and that there is something to see.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import zlib
from pathlib import Path

import pytest

from outreach.local.example_email import example_email
from outreach.local.stack import LocalStack
from outreach.v1.campaign_pb2 import EmailContent
from outreach.v1.channel_pb2 import CHANNEL_EMAIL
from services.sandbox.sendgrid.knobs import EmailKnobs
from tests.email_history import EmailHistory, email_content

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = (
    "<script>document.title='RAN'</script>",
    "\" onmouseover=\"document.title='RAN'\" x='",
    "{{unsubscribe_url}} %00 <%asm_global_unsubscribe_url%> 🎉 [name] </td></table>",
)
QUICK = EmailKnobs(event_delay_ms_min=10, event_delay_ms_max=50)
WIDTH, HEIGHT = 800, 1_000


def code() -> EmailContent:
    content = email_content(
        "<style>.box{background:#fde;padding:16px}</style><script>document.title='RAN'</script>"
        "<div class=box onclick=\"document.title='RAN'\"><h1>Hello {{first_name}}</h1>"
        "<p>From {{city}}, on <b>{{appointment}}</b>.</p>"
        "<a href='https://www.example.com/?q={{city}}'>Look</a></div>"
        "<p><a href='{{unsubscribe_url}}'>Unsubscribe</a></p>"
    )
    content.subject = "For {{first_name}}"
    return content


class HostileHistory(EmailHistory):
    """Three contacts, whose values are attacks."""

    async def prepare(self) -> None:
        await self.sandbox.reset_email_ledger()
        await self.sandbox.change_knobs({"email": self.knobs.model_dump(mode="json")})
        campaign = await self.client.create_campaign(
            name="Hostile", channel=CHANNEL_EMAIL, email=self.content
        )
        self.campaign_id = campaign.id
        rows = "".join(
            ",".join([to, *(_quoted(value) for _ in range(3))]) + "\r\n"
            for to, value in zip(self.recipients, HOSTILE, strict=True)
        )
        upload = await self.client.upload_contacts(
            campaign.id,
            f"email,first_name,city,appointment\r\n{rows}".encode(),
            consent_confirmed=True,
        )
        await self.client.import_contacts(campaign.id, upload.id)


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


@pytest.mark.skipif(BROWSER is None, reason="no browser on this machine")
@pytest.mark.parametrize("name", ["code", "blocks"])
async def test_hostile_values_are_shown_and_do_nothing(
    stack: LocalStack, tmp_path: Path, name: str
) -> None:
    content = code() if name == "code" else example_email()
    async with stack.client() as client, stack.sandbox_client() as sandbox:
        to = tuple(f"{name}.{number}@example.org" for number in (1, 2, 3))
        history = HostileHistory(client, sandbox, QUICK, to, content=content)
        await history.prepare()
        await history.run()
        await history.end()
        directory = Path(os.environ.get("OUTREACH_PICTURES_DIR") or tmp_path)
        for number, row in enumerate(await history.rows(), 1):
            page = f"{stack.sandbox_url}/sandbox/emails/{row['sg_message_id']}.html"
            picture = directory / f"{name}-{number}.png"
            dom = await photographed(page, picture, tmp_path / "profile")
            assert "RAN" not in dom.partition("</title>")[0]
            assert "<script" not in dom
            assert "onmouseover=" not in dom.replace("onmouseover=&quot;", "").replace(
                'onmouseover="document', ""
            )
            assert colours_of_rows(picture) > 20, "an empty picture"


async def photographed(url: str, picture: Path, profile: Path) -> str:
    """Show the page in a browser, with scripts on, keep a picture of it; its DOM at the end."""
    assert BROWSER is not None
    process = await asyncio.create_subprocess_exec(
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", "--hide-scrollbars"),
        *("--dump-dom", f"--screenshot={picture}", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def colours_of_rows(picture: Path) -> int:
    """How many different rows of pixels a PNG has: 1 for an empty page."""
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    position, pixels, width, channels = 8, b"", 0, 3
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        body = data[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            width, _, _, colour = struct.unpack_from(">IIBB", body)
            channels = 4 if colour == 6 else 3
        elif kind == b"IDAT":
            pixels += body
        position += 12 + length
    raw = zlib.decompress(pixels)
    line = 1 + width * channels
    return len({raw[start + 1 : start + line] for start in range(0, len(raw), line)})

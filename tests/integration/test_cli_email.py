"""`outreach campaign` with emails: options into content, and content, previews and estimates shown."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outreach.cli.exit_codes import ExitCode
from outreach.errors import OutreachError, Violation
from outreach.v1 import campaign_pb2, channel_pb2
from tests.cli_rig import Cli
from tests.scripted_api import CAMPAIGN_ID, ScriptedApi, serving_scripted

CREATE = ("campaign", "create", "--name", "x", "--channel", "email")


@pytest.fixture
def api() -> ScriptedApi:
    api = ScriptedApi()
    api.campaign.ClearField("sms")
    email = campaign_pb2.EmailContent(subject="Hi {{name}}", html="<p>" + "x" * 2_000, text="t")
    getattr(email, "from").CopyFrom(
        campaign_pb2.EmailAddress(address="n@x.example", display_name="News [1]")
    )
    api.campaign.email.CopyFrom(email)
    api.campaign.email_size.html_bytes = 110_000
    api.campaign.email_size.text_bytes = 900
    api.campaign.template_warnings.add(
        field="email.html", code="CLIPPED_BY_GMAIL", description="Gmail cuts it."
    )
    api.preview = campaign_pb2.PreviewCampaignResponse(
        email=campaign_pb2.EmailPreview(
            subject="Hi Ada [1]",
            preheader="News",
            html="<!doctype html><p>Hi Ada é</p>",
            text="Hi Ada",
            size=campaign_pb2.EmailSize(html_bytes=31, text_bytes=6),
            warnings=api.campaign.template_warnings,
        ),
        missing_variables=["city"],
    )
    api.estimate = campaign_pb2.EstimateCampaignResponse(
        to_send=3,
        email=campaign_pb2.EmailEstimate(
            template=api.campaign.email_size, attachments_bytes=3 * 1024 * 1024
        ),
    )
    api.estimate.email.sending_time.FromSeconds(120)
    return api


@pytest.fixture
async def cli(api: ScriptedApi) -> AsyncIterator[Cli]:
    async with serving_scripted(api) as address:
        yield Cli(address)


def write(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(path)


async def test_create_gives_an_email_on(api: ScriptedApi, cli: Cli, tmp_path: Path) -> None:
    ended = await cli(
        *(*CREATE, "--subject", "Hi {{name}}", "--preheader", "News"),
        *("--html-file", write(tmp_path / "a.html", "\ufeff<p>é</p>\n")),
        *("--text-file", write(tmp_path / "a.txt", "Text\n")),
        *("--from", '"Ada of News" <news@example.com>', "--reply-to", "re@example.com"),
    )
    assert ended.code == ExitCode.OK, ended.err
    campaign = api.requests[0].campaign
    expected = campaign_pb2.EmailContent(
        subject="Hi {{name}}",
        preheader="News",
        html="<p>é</p>",
        text="Text",
        reply_to=campaign_pb2.EmailAddress(address="re@example.com"),
    )
    sender = campaign_pb2.EmailAddress(address="news@example.com", display_name="Ada of News")
    getattr(expected, "from").CopyFrom(sender)
    assert campaign.channel == channel_pb2.CHANNEL_EMAIL
    assert campaign.email == expected
    assert campaign.WhichOneof("content") == "email"


async def test_create_reads_mjml_and_blocks(api: ScriptedApi, cli: Cli, tmp_path: Path) -> None:
    mjml = write(tmp_path / "a.mjml", "<mjml></mjml>")
    assert (await cli(*CREATE, "--mjml-file", mjml)).code == ExitCode.OK
    assert api.requests[0].campaign.email.mjml == "<mjml></mjml>"
    blocks = (
        '{"blocks": [{"divider": {}}, {"heading": {"text": "x", "alignment": "ALIGNMENT_LEFT"}}]}'
    )
    path = write(tmp_path / "a.json", blocks)
    assert (await cli(*CREATE, "--blocks-file", path)).code == ExitCode.OK
    heading = api.requests[1].campaign.email.blocks.blocks[1].heading
    assert (heading.text, heading.alignment) == ("x", campaign_pb2.ALIGNMENT_LEFT)


async def test_update_names_what_is_given(api: ScriptedApi, cli: Cli, tmp_path: Path) -> None:
    update = ("campaign", "update", CAMPAIGN_ID)
    html = write(tmp_path / "a.html", "<p>")
    ended = await cli(*update, "--subject", "", "--html-file", html, "--from", "N <n@x.example>")
    assert ended.code == ExitCode.OK
    request = api.requests[0]
    assert list(request.update_mask.paths) == ["email.subject", "email.from", "email.html"]
    assert getattr(request.campaign.email, "from").display_name == "N"
    # Who it is from tells the channel; an empty Reply-to is none.
    for options, paths in (
        (["--from", "n@x.example"], ["email.from"]),
        (["--from", "+15005550006"], ["sms.sender"]),
        (["--reply-to", ""], ["email.reply_to"]),
        (["--body", "Hi", "--from", "MG" + "0" * 32], ["sms.body", "sms.sender"]),
    ):
        api.requests.clear()
        assert (await cli(*update, *options)).code == ExitCode.OK
        assert list(api.requests[0].update_mask.paths) == paths
    assert api.requests[0].campaign.sms.sender.messaging_service_sid == "MG" + "0" * 32


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([*CREATE, "--body", "x"], "--body"),
        ([*CREATE, "--validity-seconds", "9"], "--validity-seconds"),
        ([*CREATE, "--from", "Nobody"], "NAME <ADDRESS>"),
        ([*CREATE, "--reply-to", "a@b <c"], "NAME <ADDRESS>"),
        ([*CREATE, "--html-file", __file__, "--mjml-file", __file__], "one body"),
        ([*CREATE, "--html-file", "no-such-file.html"], "does not exist"),
        ([*CREATE, "--blocks-file", __file__], "Failed to load JSON"),
        (["campaign", "create", "--name", "x", "--subject", "x"], "--channel email"),
        (["campaign", "create", "--name", "x", "--html-file", __file__], "--channel email"),
        (["campaign", "update", "x", "--subject", "a", "--body", "b"], "one channel"),
        (["campaign", "update", "x", "--subject", "a", "--from", "+15005550006"], "ADDRESS"),
    ],
)
async def test_wrong_combinations_are_named(
    api: ScriptedApi, cli: Cli, arguments: list[str], told: str
) -> None:
    ended = await cli(*arguments)
    assert ended.code == ExitCode.USAGE
    assert told in " ".join(ended.err.replace("│", " ").split())
    assert api.requests == []


async def test_a_file_that_is_no_block_or_no_text_is_named(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '{"blocks": [{"picture": {}}]}')
    ended = await cli(*CREATE, "--blocks-file", path)
    assert (ended.code, "picture" in ended.err) == (ExitCode.USAGE, True)
    (tmp_path / "a.html").write_bytes(b"\xff\xfe")
    ended = await cli(*CREATE, "--html-file", str(tmp_path / "a.html"))
    assert (ended.code, "not UTF-8" in ended.err) == (ExitCode.USAGE, True)


async def test_a_file_of_30_mb_is_refused_here(api: ScriptedApi, cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "a.html", "x" * 30_000_000)
    ended = await cli(*CREATE, "--html-file", path)
    assert ended.code == ExitCode.USAGE
    assert "campaign.email.html" in ended.err
    assert "TEMPLATE_TOO_LONG" in ended.err
    assert "1,000,000" in ended.err
    assert api.requests == []


async def test_a_sender_that_is_not_verified_is_told(api: ScriptedApi, cli: Cli) -> None:
    text = "The provider has not verified this sender. Verified: news@example.com."
    violation = Violation("campaign.email.from.address", "SENDER_NOT_VERIFIED", text)
    api.failures = [OutreachError.invalid(violation)]
    ended = await cli(*CREATE, "--from", "other@example.com")
    assert ended.code == ExitCode.USAGE
    assert "Verified: news@example.com." in ended.err


async def test_show_tells_of_an_email(api: ScriptedApi, cli: Cli) -> None:
    ended = await cli("campaign", "show", CAMPAIGN_ID)
    for part in (
        "Hi {{name}}",
        "News [1] <n@x.example>",
        "HTML, 2.0 KB",
        "given, 1 byte",
        "HTML 107.4 KB, text 900 bytes",
        "Gmail cuts it. (CLIPPED_BY_GMAIL)",
    ):
        assert part in ended.out
    api.campaign.email.blocks.blocks.add().divider.SetInParent()
    assert "1 block" in (await cli("campaign", "show", CAMPAIGN_ID)).out


async def test_a_preview_is_shown_as_text(cli: Cli) -> None:
    ended = await cli("campaign", "preview", CAMPAIGN_ID, "--contact", "2")
    assert ended.code == ExitCode.OK
    assert ended.out.splitlines() == ["Subject: Hi Ada [1]", "News", "", "Hi Ada"]
    assert "HTML 31 bytes, text 6 bytes" in ended.err
    assert "CLIPPED_BY_GMAIL" in ended.err
    assert "Without a value: city" in ended.err


async def test_a_preview_is_written_to_a_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "preview.html"
    ended = await cli("campaign", "preview", CAMPAIGN_ID, "--html-file", str(path))
    assert ended.code == ExitCode.OK
    assert ended.out.splitlines()[-1] == str(path)
    assert path.read_text("utf-8") == "<!doctype html><p>Hi Ada é</p>"
    ended = await cli("campaign", "preview", CAMPAIGN_ID, "--html-file", str(path), "--json")
    assert ended.data["html_file"] == str(path)
    assert ended.data["email"]["subject"] == "Hi Ada [1]"
    there_is_none = str(tmp_path / "none" / "preview.html")
    ended = await cli("campaign", "preview", CAMPAIGN_ID, "--html-file", there_is_none)
    assert (ended.code, "--html-file" in ended.err) == (ExitCode.USAGE, True)


async def test_a_preview_is_opened_in_a_browser(cli: Cli, tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    env = {"BROWSER": str(browser), "TMPDIR": str(tmp_path)}
    ended = await cli("campaign", "preview", CAMPAIGN_ID, "--open", env=env)
    assert ended.code == ExitCode.OK
    path = Path(ended.out.splitlines()[-1])
    assert path.parent == tmp_path.resolve()
    assert path.read_text("utf-8") == "<!doctype html><p>Hi Ada é</p>"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert opened.read_text().strip() == path.as_uri()


async def test_without_a_browser_the_file_is_there(cli: Cli, tmp_path: Path) -> None:
    nothing = {"BROWSER": "", "DISPLAY": "", "WAYLAND_DISPLAY": "", "PATH": str(tmp_path)}
    ended = await cli(
        "campaign", "preview", CAMPAIGN_ID, "--open", env={**nothing, "TMPDIR": str(tmp_path)}
    )
    assert ended.code == ExitCode.OK
    assert Path(ended.out.splitlines()[-1]).exists()
    assert "no browser" in ended.err


async def test_an_sms_has_no_html(api: ScriptedApi, cli: Cli, tmp_path: Path) -> None:
    api.preview = ScriptedApi().preview
    ended = await cli("campaign", "preview", CAMPAIGN_ID, "--open", env={"TMPDIR": str(tmp_path)})
    assert (ended.code, "an SMS has no HTML" in ended.err) == (ExitCode.USAGE, True)
    assert list(tmp_path.iterdir()) == []


async def test_an_estimate_of_an_email(cli: Cli) -> None:
    ended = await cli("campaign", "estimate", CAMPAIGN_ID)
    assert "HTML 107.4 KB, text 900 bytes" in ended.out
    assert "3.0 MB" in ended.out
    assert "2 min" in ended.out
    assert "segments" not in ended.out

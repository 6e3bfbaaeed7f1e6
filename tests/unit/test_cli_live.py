import io
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from rich.console import Console

from outreach.cli.live import RETRIES_NOTE, LiveCampaign, follow
from outreach.v1 import campaign_pb2, watch_pb2


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def changes(
    status: campaign_pb2.CampaignStatus.ValueType, **counts: int
) -> watch_pb2.WatchCampaignResponse:
    return watch_pb2.WatchCampaignResponse(
        changes=watch_pb2.CampaignChanges(status=status, counts=campaign_pb2.StatusCounts(**counts))
    )


def test_the_rate_is_what_was_handed_over_lately() -> None:
    clock = Clock()
    live = LiveCampaign(clock)
    running = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
    for second in range(11):
        clock.seconds = 100.0 + second
        # Ten a second at first, a hundred a second for the last five.
        sent = 10 * min(second, 5) + 100 * max(second - 5, 0)
        live.take(changes(running, sent=sent, queued=1_000 - sent, total=1_000))
    assert live.rate_per_second == 100
    assert live.elapsed_seconds == 10
    assert not live.final


def test_a_line_names_every_status_that_occurs() -> None:
    live = LiveCampaign(Clock())
    live.take(
        changes(
            campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS,
            delivered=1_200,
            assumed_delivered=3,
            failed=2,
            total=1_205,
        )
    )
    assert live.final
    assert "1,205 of 1,205 final" in live.line()
    assert "assumed delivered 3  failed 2" in live.line()
    assert "queued" not in live.line()


def test_a_heartbeat_changes_nothing() -> None:
    live = LiveCampaign(Clock())
    live.take(changes(campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS, queued=1, total=1))
    live.take(watch_pb2.WatchCampaignResponse(heartbeat=watch_pb2.Heartbeat()))
    assert live.counts.queued == 1


def test_deferred_emails_keep_it_from_being_final_and_nothing_runs_any_more() -> None:
    live = LiveCampaign(Clock())
    live.take(changes(campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS, sent=1, retrying=1, total=2))
    assert (live.final, live.retries_only) == (False, False)
    live.take(
        changes(campaign_pb2.CAMPAIGN_STATUS_ACTIVE_RETRIES, delivered=1, retrying=1, total=2)
    )
    assert (live.final, live.retries_only) == (False, True)
    assert "1 of 2 final" in live.line()
    assert "retrying 1" in live.line()
    assert RETRIES_NOTE in _shown(live)
    live.take(changes(campaign_pb2.CAMPAIGN_STATUS_COMPLETE, delivered=2, total=2))
    assert (live.final, live.retries_only) == (True, False)
    assert RETRIES_NOTE not in _shown(live)


def _shown(live: LiveCampaign) -> str:
    """The live view, in one line."""
    console = Console(width=300, file=io.StringIO())
    with console.capture() as capture:
        console.print(live)
    return " ".join(capture.get().split())


class ScriptedWatch:
    """A client whose watch tells this and no more."""

    def __init__(self, responses: list[watch_pb2.WatchCampaignResponse]) -> None:
        self.responses = responses

    async def watch_campaign(
        self, campaign_id: str, **options: object
    ) -> AsyncGenerator[watch_pb2.WatchCampaignResponse]:
        for response in self.responses:
            yield response
        raise AssertionError("it was final, and the watch went on")


async def test_a_watch_goes_on_through_deferrals_to_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    retries = campaign_pb2.CAMPAIGN_STATUS_ACTIVE_RETRIES
    client = ScriptedWatch(
        [
            changes(campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS, sent=2, retrying=1, total=3),
            changes(retries, delivered=2, retrying=1, total=3),
            changes(retries, delivered=1, failed=1, retrying=1, total=3),
            changes(
                campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS, delivered=2, failed=1, total=3
            ),
        ]
    )
    live = await follow(cast("Any", client), "a campaign", json=False)
    assert live.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS
    said = " ".join(capsys.readouterr().err.split())
    assert said.count(RETRIES_NOTE) == 1
    assert "3 of 3 final" in said

from outreach.cli.live import LiveCampaign
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

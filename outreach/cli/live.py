"""A running campaign, live: in a terminal a view that changes in place, elsewhere a line now and then."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from outreach.cli import names
from outreach.cli.output import as_data, print_json, remarks, say
from outreach.cli.render import COUNT_STYLES, FINAL_COUNTS, label, status_text
from outreach.client import CallError, OutreachClient
from outreach.v1 import campaign_pb2, watch_pb2

LINE_INTERVAL_SECONDS = 2.0
RATE_WINDOW_SECONDS = 3.0
FINAL_STATUSES = frozenset(
    {
        campaign_pb2.CAMPAIGN_STATUS_COMPLETE,
        campaign_pb2.CAMPAIGN_STATUS_COMPLETE_WITH_ERRORS,
        campaign_pb2.CAMPAIGN_STATUS_FAILED,
    }
)
#: Said once a campaign gets there, which may be for days.
RETRIES_NOTE = (
    "All else is done and the channel is free; the provider goes on trying the deferred ones, for up"
    " to 72 hours. Ctrl-C ends this watch only."
)


class LiveCampaign:
    """What a watch told so far: status, counts, and how fast messages get there.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.status: campaign_pb2.CampaignStatus.ValueType = (
            campaign_pb2.CAMPAIGN_STATUS_UNSPECIFIED
        )
        self.counts = campaign_pb2.StatusCounts()
        self.reconnects = 0
        self.lost = False
        self._clock = clock
        self._started_seconds = clock()
        self._history: deque[tuple[float, int]] = deque()

    def take(self, response: watch_pb2.WatchCampaignResponse) -> None:
        """Take in one response of the watch."""
        self.lost = False
        match response.WhichOneof("event"):
            case "snapshot":
                self.status, self.counts = response.snapshot.status, response.snapshot.counts
            case "changes":
                self.status, self.counts = response.changes.status, response.changes.counts
            case _:
                return
        self._history.append((self._clock(), self.handed_over))

    def lose(self) -> bool:
        """The connection is gone for now; whether this is news, not another try that failed."""
        if self.lost:
            return False
        self.lost = True
        self.reconnects += 1
        return True

    @property
    def final(self) -> bool:
        """Whether the run is over."""
        return self.status in FINAL_STATUSES

    @property
    def retries_only(self) -> bool:
        """Whether it is not running any more and not final either: emails are deferred."""
        return self.status == campaign_pb2.CAMPAIGN_STATUS_ACTIVE_RETRIES

    @property
    def messages_final(self) -> int:
        """Messages that reached a final status."""
        return sum(getattr(self.counts, name) for name in FINAL_COUNTS)

    @property
    def handed_over(self) -> int:
        """Messages past SENDING: somebody answered for them."""
        counts = self.counts
        return counts.total - counts.waiting - counts.queued - counts.sending

    @property
    def elapsed_seconds(self) -> float:
        """Since this watch began."""
        return self._clock() - self._started_seconds

    @property
    def rate_per_second(self) -> float:
        """Messages handed over a second, over the last few seconds."""
        now_seconds = self._clock()
        while len(self._history) > 2 and self._history[1][0] < now_seconds - RATE_WINDOW_SECONDS:
            self._history.popleft()
        if not self._history:
            return 0.0
        first_seconds, first = self._history[0]
        return (self.handed_over - first) / max(now_seconds - first_seconds, 0.1)

    def line(self) -> str:
        """All of it in one line."""
        parts = [f"{self.messages_final:,} of {self.counts.total:,} final"]
        numbers = {name: getattr(self.counts, name) for name in COUNT_STYLES}
        parts += [f"{label(name)} {number:,}" for name, number in numbers.items() if number]
        status = names.campaign_status(self.status)
        return (
            f"{self.elapsed_seconds:5.1f} s  {status}  {'  '.join(parts)}"
            f"  {self.rate_per_second:,.0f}/s"
        )

    def __rich__(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        head.add_row(
            status_text(self.status),
            ProgressBar(total=self.counts.total or 1, completed=self.messages_final, width=36),
            f"{self.messages_final:,} of {self.counts.total:,} final",
            f"{self.rate_per_second:,.0f}/s",
            f"{self.elapsed_seconds:.0f} s",
        )
        by_status = Table.grid(padding=(0, 3))
        numbers = {name: getattr(self.counts, name) for name in COUNT_STYLES}
        shown = [name for name, number in numbers.items() if number]
        by_status.add_row(*(Text(label(name), style="dim") for name in shown))
        by_status.add_row(*(Text(f"{numbers[name]:,}", style=COUNT_STYLES[name]) for name in shown))
        notes = []
        if self.retries_only:
            notes.append(Text(RETRIES_NOTE, style="dim"))
        if self.reconnects:
            text = "connection lost, trying again" if self.lost else "connections lost and found"
            notes.append(Text(f"{text}: {self.reconnects}", style="yellow"))
        return Group(head, by_status, *notes)


async def follow_together(
    client: OutreachClient, campaign_ids: Mapping[str, str], *, quiet: bool
) -> dict[str, LiveCampaign]:
    """Watch several campaigns, by a title of each, below each other until all are final."""
    views = {title: LiveCampaign() for title in campaign_ids}
    in_place = remarks.is_terminal and not quiet
    parts = [part for title, live in views.items() for part in (Text(title, style="bold"), live)]
    shown = Live(Group(*parts), console=remarks, refresh_per_second=8)
    with shown if in_place else nullcontext():
        async with asyncio.TaskGroup() as tasks:
            for title, live in views.items():
                say_line = None if in_place or quiet else _line_sayer(title, live)
                tasks.create_task(_take_until_final(client, campaign_ids[title], live, say_line))
    return views


async def _take_until_final(
    client: OutreachClient,
    campaign_id: str,
    live: LiveCampaign,
    say_line: Callable[[], None] | None,
) -> None:
    def on_reconnect(error: CallError) -> None:
        if live.lose() and say_line:
            say(f"Connection lost ({error.reason}); going on from the last token.")

    responses = client.watch_campaign(campaign_id, on_reconnect=on_reconnect)
    printed_seconds = 0.0
    async for response in responses:
        live.take(response)
        if say_line and (live.final or time.monotonic() - printed_seconds >= LINE_INTERVAL_SECONDS):
            printed_seconds = time.monotonic()
            say_line()
        if live.final:
            break
    await responses.aclose()


def _line_sayer(title: str, live: LiveCampaign) -> Callable[[], None]:
    return lambda: say(f"{title:<6} {live.line()}")


async def follow(
    client: OutreachClient,
    campaign_id: str,
    *,
    json: bool,
    resume_token: str = "",
    include_messages: bool = False,
    until_final: bool = True,
    quiet: bool = False,
) -> LiveCampaign:
    """Watch a campaign and show it; returns what was seen last.

    Args:
        client: who to ask.
        campaign_id: which campaign.
        json: one JSON line a response on stdout, in place of the live view.
        resume_token: where to go on from.
        include_messages: show single messages too (JSON: in the changes; else as lines).
        until_final: return once the campaign is final; else only when cancelled.
        quiet: show nothing at all.
    """
    live = LiveCampaign()

    def on_reconnect(error: CallError) -> None:
        if live.lose() and not remarks.is_terminal and not quiet:
            say(f"Connection lost ({error.reason}); going on from the last token.")

    responses = client.watch_campaign(
        campaign_id,
        resume_token=resume_token,
        include_messages=include_messages,
        on_reconnect=on_reconnect,
    )
    in_place = remarks.is_terminal and not json and not quiet
    with Live(live, console=remarks, refresh_per_second=8) if in_place else nullcontext():
        printed_seconds = 0.0
        noted = False
        async for response in responses:
            live.take(response)
            if live.retries_only and not (noted or json or in_place or quiet):
                noted = True
                say(RETRIES_NOTE)
            if json:
                print_json(as_data(response), line=True)
            elif include_messages:
                _say_messages(response)
            done = until_final and live.final
            due = done or time.monotonic() - printed_seconds >= LINE_INTERVAL_SECONDS
            if not (json or in_place or quiet) and due:
                printed_seconds = time.monotonic()
                say(live.line())
            if done:
                break
    await responses.aclose()
    return live


def _say_messages(response: watch_pb2.WatchCampaignResponse) -> None:
    for change in response.changes.messages:
        reason = names.failure_reason(change.failure_reason)
        text = f"{change.number:>8}  {names.message_status(change.status)} {reason}"
        say(text.rstrip(), style=COUNT_STYLES.get(names.message_status(change.status).lower(), ""))

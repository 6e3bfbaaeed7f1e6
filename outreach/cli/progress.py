"""Progress of things that take longer than a second: a bar in a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from outreach.cli.output import remarks, say

LINE_INTERVAL_SECONDS = 2.0

# Called with what is done, of how much (None: not known), and a short note.
Update = Callable[[float, float | None, str], None]


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Update]:
    """Show how far something is, on stderr.

    Args:
        title: what goes on, as in "Uploading".
        quiet: show nothing outside a terminal (with --json nobody reads the lines).
    """
    if remarks.is_terminal:
        with _bar(title) as update:
            yield update
    else:
        yield _lines(title, quiet=quiet)


@contextmanager
def _bar(title: str) -> Iterator[Update]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f} %"),
        # A note may have the name of a file in it, whose brackets are no markup.
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=remarks, transient=True) as bars:
        task = bars.add_task(title, total=None, note="")

        def update(done: float, total: float | None, note: str) -> None:
            bars.update(task, completed=done, total=total, note=note)

        yield update


def _lines(title: str, *, quiet: bool) -> Update:
    last_seconds = time.monotonic()

    def update(done: float, total: float | None, note: str) -> None:
        nonlocal last_seconds
        now_seconds = time.monotonic()
        if quiet or now_seconds - last_seconds < LINE_INTERVAL_SECONDS:
            return
        last_seconds = now_seconds
        share = f" {done / total:4.0%}" if total else ""
        say(f"{title}{share}  {note}")

    return update

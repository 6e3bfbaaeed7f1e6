"""I12: memory and queues stay within the run's bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaos.checker.record import CampaignRecord
from chaos.checker.violation import Violation
from chaos.history import History


def check_bounds(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I12: the largest sample of each source; one that could not be had tells nothing."""
    del records  # every check has the same arguments
    rss: dict[str, int] = {}
    stored = 0
    for sample in history.samples:
        if sample.rss_bytes is not None:
            rss[sample.source] = max(sample.rss_bytes, rss.get(sample.source, 0))
        stored = max(stored, sample.jetstream_messages or 0)
    for source, allowed in history.bounds.rss_bytes_max.items():
        if rss.get(source, 0) > allowed:
            text = f"{source} held {rss[source]:,} bytes, {allowed:,} are allowed"
            yield Violation("I12", text)
    messages_max = history.bounds.jetstream_messages_max
    if messages_max is not None and stored > messages_max:
        yield Violation("I12", f"JetStream held {stored:,} messages, {messages_max:,} are allowed")

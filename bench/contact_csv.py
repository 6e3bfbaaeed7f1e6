"""How fast a CSV file becomes contacts: `python -m bench.contact_csv [rows]`.

In this process, and through the worker process (with its peak memory), against the bare csv module. No database: what
comes out is COPY payloads. Peak memory is shown for a tenth of the rows too: it may grow by the hashes, no more.
"""

import asyncio
import csv
import io
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import psutil

from outreach.template.placeholders import parse_template
from outreach.template.segments import segments
from outreach.vocabulary import Channel
from services.campaign.contacts.dialect import HEAD_BYTES_MAX, detect_layout
from services.campaign.contacts.importer import ContactImport, ImportCounts, ImportSpec
from services.campaign.contacts.mapping import resolve_mapping
from services.campaign.contacts.worker import import_in_worker

CHUNK_BYTES = 64 * 1024


def contacts_csv(rows: int, channel: Channel) -> bytes:
    random_ = random.Random(1)
    lines = ["phone,first_name,last_name,city,note"]
    for n in range(rows):
        to = f"person.{n}@mail{n % 50}.example.com"
        if channel is Channel.SMS:
            to = f"+4477{n:08d}" if n % 2 else f"+1{2_000_000_000 + n}"
        if n % 100 == 0:
            to = to[:6]
        lines.append(f'{to},Name{n},Größe{n % 97},"City, {random_.randrange(999)}",')
    return "\n".join(lines).encode()


def spec_of(data: bytes, channel: Channel) -> ImportSpec:
    layout = detect_layout(data[:HEAD_BYTES_MAX], complete=False, channel=channel)
    mapping, violations = resolve_mapping(layout.suggested_mapping, layout.column_names)
    if mapping is None:
        raise SystemExit(str(violations))
    return ImportSpec(
        UUID(int=1), channel, layout.encoding, layout.delimiter, layout.has_header, mapping, b"key"
    )


def in_process(data: bytes, spec: ImportSpec) -> ImportCounts:
    running = ContactImport(spec)
    for start in range(0, len(data), CHUNK_BYTES):
        for _ in running.feed(data[start : start + CHUNK_BYTES]):
            pass
    return [batch.counts for batch in running.finish()][-1]


async def through_worker(data: bytes, spec: ImportSpec) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]

    counts, peak = ImportCounts(), 0
    async with import_in_worker(chunks(), spec) as batches:
        async for batch in batches:
            counts = batch.counts
            workers = psutil.Process().children()
            peak = max(peak, *(worker.memory_info().rss for worker in workers))
    return f"{counts}\n{'':34} worker's peak {peak / 1e6:.0f} MB"


def timed(what: str, rows: int, run: Callable[[], object]) -> None:
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    print(f"{what:34} {rows / seconds:>12,.0f} rows/s   {seconds:6.2f} s   {result}")


def bench_import(channel: Channel, rows: int) -> None:
    print(f"{channel.name}: {rows:,} rows")
    few, data = contacts_csv(rows // 10, channel), contacts_csv(rows, channel)
    spec = spec_of(data, channel)
    text = data.decode()
    timed("csv module alone", rows, lambda: sum(1 for _ in csv.reader(io.StringIO(text))))
    timed("in this process", rows, lambda: in_process(data, spec))
    timed("worker, a tenth", rows // 10, lambda: asyncio.run(through_worker(few, spec)))
    timed("worker, all", rows, lambda: asyncio.run(through_worker(data, spec)))


def bench_template(rows: int) -> None:
    template = parse_template("Hello {{first_name|there}}, {{city}} is waiting. STOP to opt out.")
    bound = template.bind(["first_name", "city"])
    body = bound.render(["Ann", "Zürich"]) * 3

    def render() -> None:
        for _ in range(rows):
            bound.render(["Ann", "Zürich"])

    def count() -> None:
        for _ in range(rows):
            segments(body)

    timed("render", rows, render)
    timed("segments (GSM-7)", rows, count)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    for channel in Channel:
        bench_import(channel, rows)
    bench_template(rows)


if __name__ == "__main__":
    main()

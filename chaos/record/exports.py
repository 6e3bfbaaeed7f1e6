"""Exports of a campaign's messages, read to their end and counted."""

from __future__ import annotations

import csv
import hashlib
import io
import time
from collections import Counter

import grpc

from chaos.history import Exported, History
from chaos.wire import is_final
from outreach.client import CallError, OutreachClient
from outreach.vocabulary import MessageStatus


async def export_once(
    client: OutreachClient, campaign_id: str, history: History, *, settled: bool = False
) -> None:
    """Export the campaign and write down what the file holds; nothing when a fault keeps us from it.

    `settled`: nothing is under way any more, so that a campaign that is final stays as it is.
    """
    try:
        before = await client.get_campaign(campaign_id)
        begun_time = time.time()
        export = client.export_messages(campaign_id, columns=("number", "status"))
        try:
            content = b"".join([chunk async for chunk in export])
        except CallError as error:
            if error.code is not grpc.StatusCode.DATA_LOSS:
                raise
            content = b""
        ended_time = time.time()
        after = await client.get_campaign(campaign_id)
    except CallError:
        return
    rows = [*csv.DictReader(io.StringIO(content.decode()))]
    end = export.end
    history.exports.append(
        Exported(
            campaign_id=campaign_id,
            begun_time=begun_time,
            ended_time=ended_time,
            counts=dict(Counter(MessageStatus[row["status"]] for row in rows)),
            rows=len(rows),
            numbers_distinct=len({row["number"] for row in rows}),
            told_rows=end.rows if end is not None else 0,
            bytes_right=end is not None and end.sha256 == hashlib.sha256(content).hexdigest(),
            campaign_final=settled and is_final(before) and before.revision == after.revision,
        )
    )

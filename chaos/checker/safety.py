"""I11: what no provider has sent changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from chaos.checker.record import TAKEN, CampaignRecord
from chaos.checker.violation import Violation
from chaos.history import Forged, History


def check_forged(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """I11: it is not answered as a genuine one is, and nothing that it claims is in the database."""
    marks: dict[str, Forged] = {}
    for forged in history.forged:
        if forged.must_refuse and forged.http_status is not None and forged.http_status < 400:
            text = f"a webhook ({forged.kind}) was answered {forged.http_status}"
            yield Violation("I11", text, forged.campaign_id)
        if forged.mark:
            marks[forged.mark] = forged
    for record in records.values():
        for message in record.messages.values():
            for told in (message.provider_message_id, message.provider_code):
                if told in marks:
                    text = f"message {message.number} has {told} of a webhook ({marks[told].kind})"
                    yield Violation("I11", text, message.campaign_id)
    yield from _believed(history, records)


def _believed(history: History, records: Mapping[str, CampaignRecord]) -> Iterator[Violation]:
    """A message that came to be what was claimed of it, though the provider never had it."""
    claims: dict[str, dict[int, list[Forged]]] = defaultdict(lambda: defaultdict(list))
    for forged in history.forged:
        if forged.must_refuse and forged.claimed_status in TAKEN:
            claims[forged.campaign_id][forged.number].append(forged)
    for campaign_id in claims.keys() & records.keys():
        record = records[campaign_id]
        for step in record.steps:
            number, attempt = step.after.number, step.after.attempt
            for forged in claims[campaign_id].get(number, ()):
                if (
                    step.after.status is forged.claimed_status
                    and step.commit_time >= forged.time
                    and (number, attempt) not in record.accepted
                ):
                    text = f"message {number} became {step.after.status.name}, as a webhook ({forged.kind}) claimed"
                    yield Violation("I11", text, campaign_id)

"""Campaign rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from outreach.postgres.queries import load_queries
from outreach.vocabulary import (
    CampaignStatus,
    Channel,
    FailureReason,
    MissingVariablePolicy,
)
from services.campaign.domain.compilation import Compilation, TemplateReport
from services.campaign.domain.content import Content, Draft, Problem
from services.campaign.domain.lifecycle import Counts
from services.campaign.store import Connection, Record
from services.campaign.store.content_json import (
    AttachmentKey,
    content_from_json,
    content_hash,
    content_to_json,
    problems_from_json,
    problems_to_json,
    report_from_json,
    report_to_json,
)

QUERIES = load_queries("services.campaign.store", "campaigns.sql")

_DESTINATION, _CUSTOM_VARIABLE = 1, 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the imported file; `role` has the numbers of `outreach.v1.ColumnRole`."""

    name: str
    role: int
    variable_name: str = ""


def variable_names_of(columns: Iterable[Column]) -> tuple[str, ...]:
    """In the order of a contact's `variables`."""
    return tuple(column.variable_name for column in columns if column.role == _CUSTOM_VARIABLE)


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What the import found; rows = imported + invalid + duplicates."""

    rows: int
    imported: int
    invalid: int
    duplicates: int
    time: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a campaign is FAILED."""

    reason: FailureReason
    text: str
    code: str


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """A campaign as it is stored, without what its template was compiled to.

    `report` tells of that; None: an SMS, or an email that could not be compiled.
    """

    id: UUID
    organisation_id: UUID
    channel: Channel
    name: str
    description: str
    missing_variable_policy: MissingVariablePolicy
    status: CampaignStatus
    counts: Counts
    revision: int
    run: int
    version: int
    content: Content
    report: TemplateReport | None
    columns: tuple[Column, ...]
    problems: tuple[Problem, ...]
    contacts: ImportSummary | None
    failure: Failure | None
    create_time: datetime
    update_time: datetime
    start_time: datetime | None
    stop_time: datetime | None
    end_time: datetime | None

    @property
    def draft(self) -> Draft:
        """What the caller decided about it."""
        return Draft(
            name=self.name,
            description=self.description,
            channel=self.channel,
            content=self.content,
            missing_variable_policy=self.missing_variable_policy,
        )

    @property
    def variable_names(self) -> tuple[str, ...]:
        """In the order of a contact's `variables`."""
        return variable_names_of(self.columns)

    @property
    def known_variable_names(self) -> tuple[str, ...] | None:
        """What placeholders are checked against; None: no contacts yet, so nothing to check."""
        return None if self.contacts is None else self.variable_names


async def get_campaign(
    connection: Connection, organisation_id: UUID, campaign_id: UUID, *, locked: bool = False
) -> CampaignRecord | None:
    """None: the organisation has no such campaign. `locked`: no one else changes it until commit."""
    if locked:
        await connection.execute(QUERIES["lock_campaign"], organisation_id, campaign_id)
    row = await connection.fetchrow(QUERIES["get_campaign"], organisation_id, campaign_id)
    return None if row is None else campaign_of(row)


async def list_campaigns(
    connection: Connection,
    organisation_id: UUID,
    *,
    channel: Channel | None,
    statuses: Sequence[CampaignStatus],
    name_contains: str,
    before: UUID | None,
    limit: int,
    bytes_max: int,
) -> tuple[list[CampaignRecord], bool]:
    """Newest first, those older than `before`; and whether there are more of the first `limit`.

    The last one is the one with which their contents have more than `bytes_max` together.
    """
    rows = await connection.fetch(
        QUERIES["list_campaigns"],
        organisation_id,
        channel,
        list(statuses),
        name_contains,
        before,
        limit,
        bytes_max,
    )
    more = bool(rows) and len(rows) < rows[0]["matching"]
    return [campaign_of(row) for row in rows], more


async def insert_campaign(
    connection: Connection,
    *,
    campaign_id: UUID,
    organisation_id: UUID,
    draft: Draft,
    compilation: Compilation | None,
    problems: Sequence[Problem],
    status: CampaignStatus,
) -> None:
    """A new campaign, without contacts. `compilation`: an email's."""
    await connection.execute(
        QUERIES["insert_campaign"],
        campaign_id,
        organisation_id,
        draft.channel,
        draft.name,
        draft.description,
        draft.missing_variable_policy,
        status,
    )
    await connection.execute(
        QUERIES["insert_content"],
        campaign_id,
        content_hash(
            draft.content,
            (),
            draft.missing_variable_policy,
            report=None if compilation is None else compilation.report,
        ),
        content_to_json(draft.content),
        problems_to_json(problems),
    )
    if compilation is not None:
        await _set_compiled(connection, campaign_id, compilation)


async def update_campaign(
    connection: Connection,
    campaign: CampaignRecord,
    draft: Draft,
    compilation: Compilation | None,
    problems: Sequence[Problem],
    status: CampaignStatus,
) -> None:
    """Replace what the caller decided; the version grows. `compilation` None: the template is the
    one it was, and so is what it was compiled to.
    """
    await connection.execute(
        QUERIES["update_campaign"],
        campaign.id,
        draft.name,
        draft.description,
        draft.missing_variable_policy,
        status,
    )
    report = campaign.report
    if compilation is not None:
        report = compilation.report
        await _set_compiled(connection, campaign.id, compilation)
    await connection.execute(
        QUERIES["update_content"],
        campaign.id,
        content_hash(
            draft.content,
            campaign.variable_names,
            draft.missing_variable_policy,
            await _attachment_keys(connection, campaign.id),
            report=report,
        ),
        content_to_json(draft.content),
        problems_to_json(problems),
    )


async def refresh_content_hash(connection: Connection, campaign: CampaignRecord) -> None:
    """Name the content anew, after a change of what belongs to it and is stored elsewhere
    (attachments); to be called in the transaction of that change.
    """
    hash_ = content_hash(
        campaign.content,
        campaign.variable_names,
        campaign.missing_variable_policy,
        await _attachment_keys(connection, campaign.id),
        report=campaign.report,
    )
    await connection.execute(QUERIES["set_content_hash"], campaign.id, hash_)


async def get_compiled(connection: Connection, campaign_id: UUID) -> bytes | None:
    """JSON of the CompiledEmail; None: there is none. Up to some megabytes."""
    compiled: bytes | None = await connection.fetchval(QUERIES["get_compiled"], campaign_id)
    return compiled


async def attachments_bytes(connection: Connection, campaign_id: UUID) -> int:
    """Of all of a campaign's attachments together."""
    size: int = await connection.fetchval(QUERIES["attachments_bytes"], campaign_id)
    return size


async def _set_compiled(
    connection: Connection, campaign_id: UUID, compilation: Compilation
) -> None:
    report = compilation.report
    await connection.execute(
        QUERIES["set_compiled"],
        campaign_id,
        compilation.compiled,
        None if report is None else report_to_json(report),
    )


async def _attachment_keys(connection: Connection, campaign_id: UUID) -> list[AttachmentKey]:
    rows = await connection.fetch(QUERIES["attachment_keys"], campaign_id)
    return [AttachmentKey(row["id"], row["sha256"]) for row in rows]


async def begin_run(connection: Connection, campaign_id: UUID, *, segments_mean: float) -> int:
    """Take the channel and open the next run; gives its number.

    Raises asyncpg.UniqueViolationError (constraint `campaign_channel_lock`) when the channel is
    taken; the transaction is then over.
    """
    run: int = await connection.fetchval(QUERIES["begin_run"], campaign_id, segments_mean)
    return run


async def log_change(connection: Connection, campaign_id: UUID) -> int:
    """Append the campaign's status and counts to the change log; gives the new revision."""
    revision: int = await connection.fetchval(QUERIES["log_change"], campaign_id)
    return revision


async def set_edited(connection: Connection, campaign_id: UUID) -> None:
    """Another version, and so another etag, after a change that is not in the campaign's own rows."""
    await connection.execute(QUERIES["set_edited"], campaign_id)


async def insert_acceptance(
    connection: Connection,
    *,
    campaign_id: UUID,
    run: int,
    organisation_id: UUID,
    version: str,
    accepted_by: str,
) -> None:
    """Keep who accepted which disclaimer for which run."""
    await connection.execute(
        QUERIES["insert_acceptance"], campaign_id, run, organisation_id, version, accepted_by
    )


async def channel_holder(
    connection: Connection, organisation_id: UUID, channel: Channel
) -> UUID | None:
    """The campaign that runs on the channel now."""
    holder: UUID | None = await connection.fetchval(
        QUERIES["channel_holder"], organisation_id, channel
    )
    return holder


async def sample_variables(
    connection: Connection, campaign_id: UUID, numbers: Sequence[int]
) -> list[list[str | None]]:
    """The variables of these contacts."""
    rows = await connection.fetch(QUERIES["sample_variables"], campaign_id, list(numbers))
    return [row["variables"] for row in rows]


async def get_variables(
    connection: Connection, campaign_id: UUID, number: int
) -> list[str | None] | None:
    """One contact's variables; None: no such contact."""
    variables: list[str | None] | None = await connection.fetchval(
        QUERIES["get_variables"], campaign_id, number
    )
    return variables


async def contacts_after(
    connection: Connection, campaign: CampaignRecord, number: int, limit: int
) -> list[tuple[int, list[str | None], bool]]:
    """Number, variables, suppressed; of the contacts after `number`."""
    rows = await connection.fetch(
        QUERIES["contacts_after"],
        campaign.id,
        campaign.organisation_id,
        campaign.channel,
        number,
        limit,
    )
    return [(row["number"], row["variables"], row["suppressed"]) for row in rows]


def campaign_of(row: Record | Mapping[str, Any]) -> CampaignRecord:
    """A row of any statement that selects whole campaigns."""
    channel = Channel(row["channel"])
    return CampaignRecord(
        id=row["id"],
        organisation_id=row["organisation_id"],
        channel=channel,
        name=row["name"],
        description=row["description"],
        missing_variable_policy=MissingVariablePolicy(row["missing_variable_policy"]),
        status=CampaignStatus(row["status"]),
        counts=Counts(
            waiting=row["waiting"],
            queued=row["queued"],
            sending=row["sending"],
            sent=row["sent"],
            retrying=row["retrying"],
            delivered=row["delivered"],
            assumed_delivered=row["assumed_delivered"],
            failed=row["failed"],
            opted_out=row["opted_out"],
            cancelled=row["cancelled"],
        ),
        revision=row["revision"],
        run=row["run"],
        version=row["version"],
        content=content_from_json(channel, row["content"]),
        report=report_from_json(row["compiled_report"]),
        columns=tuple(Column(**raw) for raw in orjson.loads(row["columns"])),
        problems=problems_from_json(row["problems"]),
        contacts=_summary_of(row),
        failure=_failure_of(row),
        create_time=row["create_time"],
        update_time=row["update_time"],
        start_time=row["start_time"],
        stop_time=row["stop_time"],
        end_time=row["end_time"],
    )


def _summary_of(row: Record | Mapping[str, Any]) -> ImportSummary | None:
    if row["import_time"] is None:
        return None
    return ImportSummary(
        rows=row["rows_read"],
        imported=row["total"],
        invalid=row["rows_invalid"],
        duplicates=row["rows_duplicate"],
        time=row["import_time"],
    )


def _failure_of(row: Record | Mapping[str, Any]) -> Failure | None:
    if row["failure_reason"] is None:
        return None
    return Failure(
        reason=FailureReason(row["failure_reason"]),
        text=row["failure_text"] or "",
        code=row["failure_code"] or "",
    )

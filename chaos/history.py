"""What was recorded of one run: the provider's ledger, the database, and what clients saw and did.

Only data. `chaos.record` writes it, `chaos.checker` reads it, and either may come from a file: a history
is kept as one JSON document. Times are seconds since the epoch, on the machine's own clock (the processes
whose clock is made to jump are never asked for one). A recipient stands here as it is: histories of
chaos runs hold made-up ones only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from outreach.vocabulary import CampaignStatus, Channel, FailureReason, MessageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One message that the provider has taken: a row of the sandbox's ledger.

    Attributes:
        token_valid: the attempt it carries is one that our key has signed; the ids come from it.
        arrived_time: when the provider had read the request; the send began no later.
    """

    channel: Channel
    recipient: str
    provider_message_id: str
    token_valid: bool
    campaign_id: str
    number: int
    attempt: int
    arrived_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message as the database has it when the run is over."""

    campaign_id: str
    number: int
    recipient: str
    status: MessageStatus
    failure_reason: FailureReason | None
    run: int
    attempt: int
    provider_message_id: str
    provider_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttempt:
    """An earlier attempt that a retry has followed: a row of `message_attempt`."""

    campaign_id: str
    number: int
    attempt: int
    run: int
    status: MessageStatus
    failure_reason: FailureReason | None
    provider_message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCampaign:
    """A campaign's row; `counts` by status, those that are not 0."""

    campaign_id: str
    channel: Channel
    status: CampaignStatus
    counts: dict[MessageStatus, int]
    total: int
    run: int
    revision: int
    stop_time: float | None
    end_time: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageChange:
    """One message in a commit, or in what a watcher was told."""

    number: int
    status: MessageStatus
    failure_reason: FailureReason | None
    attempt: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """A row of the change log: one commit that changed messages of a campaign."""

    campaign_id: str
    revision: int
    commit_time: float
    status: CampaignStatus
    counts: dict[MessageStatus, int]
    messages: tuple[MessageChange, ...]


class Told(StrEnum):
    """What a watcher's response was. LEFT is none: its reader went away for good, and wants no more.

    Of a watcher that has not left, what it was told last has to be the campaign's last revision.
    """

    SNAPSHOT = "snapshot"
    CHANGES = "changes"
    HEARTBEAT = "heartbeat"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One response of WatchCampaign with all messages, in the order in which its reader got it.

    Attributes:
        watcher: whose; one watcher reconnects with tokens and is one sequence.
        reconnects: how often its stream had been opened again by then.
    """

    watcher: str
    campaign_id: str
    time: float
    told: Told
    revision: int
    reconnects: int
    status: CampaignStatus | None
    counts: dict[MessageStatus, int] | None
    total: int | None
    messages: tuple[MessageChange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignSeen:
    """A campaign in the answer of a call: `source` says of which (get, list, watch_all, run, …)."""

    source: str
    time: float
    campaign_id: str
    channel: Channel
    status: CampaignStatus
    counts: dict[MessageStatus, int]
    total: int
    holds_channel: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One export of a campaign's messages, read to its end: rows by status, and its own total.

    Attributes:
        numbers_distinct: different message numbers in it.
        told_rows: the row count that its last response said.
        bytes_right: its checksum was that of the bytes read.
        campaign_final: the campaign was final before it began and is unchanged since.
    """

    campaign_id: str
    begun_time: float
    ended_time: float
    counts: dict[MessageStatus, int]
    rows: int
    numbers_distinct: int
    told_rows: int
    bytes_right: bool
    campaign_final: bool


class ActionKind(StrEnum):
    """What a client asked for."""

    RUN = "run"
    STOP = "stop"
    RETRY = "retry"
    DELETE = "delete"
    IMPORT = "import"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """A call that changes a campaign.

    Attributes:
        answered_time: None: it never was (its caller gave up, or it is not known).
        ok: it was answered without an error; None: not known.
        reason: of the error, from the catalogue or a gRPC status's name.
        run: the run that it began, if it began one.
        numbers: the messages that a retry took, None: all, or not known.
        forced: a retry that was also for messages which may have arrived (UNCONFIRMED).
    """

    kind: ActionKind
    campaign_id: str
    begun_time: float
    answered_time: float | None
    ok: bool | None
    reason: str = ""
    run: int | None = None
    numbers: tuple[int, ...] | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptedOut:
    """A recipient whose opt-out was committed no later than `committed_time`.

    `ended_time`: when START was asked for, not when it was answered; None: never.
    """

    channel: Channel
    recipient: str
    source: str
    committed_time: float
    ended_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forged:
    """A webhook that no provider made: wrong signature, stale, replayed, unknown token, truncated.

    Attributes:
        kind: which of them.
        http_status: of its answer; None: there was none.
        must_refuse: it has to be refused (4xx); a replay of a genuine one may be answered 2xx.
        campaign_id, number: the message that it claims to be about; empty and 0: of none.
        claimed_status: what the message would become if it were believed; None: nothing.
        mark: a provider's code or message id in it that nothing genuine has; stored, it was believed.
    """

    kind: str
    channel: Channel
    time: float
    http_status: int | None
    must_refuse: bool
    campaign_id: str = ""
    number: int = 0
    claimed_status: MessageStatus | None = None
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What a process, NATS or the database held at one time. None: not to be had there."""

    source: str
    time: float
    rss_bytes: int | None = None
    file_descriptors: int | None = None
    threads: int | None = None
    tasks: int | None = None
    connections: int | None = None
    jetstream_bytes: int | None = None
    jetstream_messages: int | None = None
    dead_tuples: int | None = None
    table_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDone:
    """A fault that was injected: its kind, what it hit, from when to when."""

    kind: str
    target: str
    begun_time: float
    ended_time: float
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What this run allows, from its settings and its faults.

    Attributes:
        send_window_seconds: of a claim.
        sms_request_seconds, email_request_seconds: a request that starts in its window may take so long until it
            is whole with the provider; its sender gives it up then.
        hold_seconds: how long a request may lie between its sender and the provider by a fault of the run
            (a stalled connection, a stopped process); 0 when no fault holds requests.
        lag_seconds: so late the provider's double reads what has arrived, as measured in the run: the machine's doing.
        unsent_unconfirmed_max: messages that may end UNCONFIRMED though the provider took none: at most
            the calls that were in flight at the kills and cuts, and those that the provider is told to
            answer with an error or not at all without taking them.
        refusals_lost_max: refusals (4xx) whose answer a fault could swallow; such a message is UNCONFIRMED.
        receipts_may_be_lost: a fault of the run loses receipts that were stored (the store was wiped or
            rolled back): such messages may be ASSUMED_DELIVERED, TIMED_OUT or UNCONFIRMED.
        rss_bytes_max: by source; a source that is not named has no bound.
        jetstream_messages_max: in all streams together.
    """

    send_window_seconds: float
    sms_request_seconds: float = 0.0
    email_request_seconds: float = 0.0
    hold_seconds: float = 0.0
    lag_seconds: float = 0.0
    unsent_unconfirmed_max: int = 0
    refusals_lost_max: int = 0
    receipts_may_be_lost: bool = False
    rss_bytes_max: dict[str, int] = field(default_factory=dict)
    jetstream_messages_max: int | None = None


@dataclass(slots=True, kw_only=True)
class History:
    """All that is known of a run."""

    seed: int
    bounds: Bounds
    acceptances: list[Acceptance] = field(default_factory=list)
    campaigns: list[StoredCampaign] = field(default_factory=list)
    messages: list[StoredMessage] = field(default_factory=list)
    attempts: list[StoredAttempt] = field(default_factory=list)
    changes: list[StoredChange] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)
    seen: list[CampaignSeen] = field(default_factory=list)
    exports: list[Exported] = field(default_factory=list)
    actions: list[Acted] = field(default_factory=list)
    opt_outs: list[OptedOut] = field(default_factory=list)
    forged: list[Forged] = field(default_factory=list)
    samples: list[Sampled] = field(default_factory=list)
    faults: list[FaultDone] = field(default_factory=list)

"""Deliberate breaks of the product, by name: what the checker has to find if it is worth anything.

A service process that is told one by `OUTREACH_CHAOS_BREAK` (`chaos.process`) installs it before it imports the
service. `python -m chaos breaks` runs them all, and says which invariant told of which.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # a service's process has no use for plans, and must not import them
    from chaos.plan import Plan

_SMALL_SHARE: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One break; to call it is to install it in this process.

    Attributes:
        invariant: that the checker has to say is broken; others may be as well.
        text: what the product does wrongly.
        install: changes modules of the product.
        occasion: whether a run by this plan gives it something to break.
    """

    invariant: str
    text: str
    install: Callable[[], None]
    occasion: Callable[[Plan], bool] = lambda _: True
    kinds: tuple[str, ...] = ()

    def __call__(self) -> None:
        self.install()


def _put(owner: object, name: str, value: object) -> None:
    """Set an attribute that must be there."""
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    setattr(owner, name, value)


def _change_statement(package: str, name: str, *changes: tuple[str, str]) -> None:
    """Change an SQL statement before the module that sends it is imported."""
    from outreach.postgres import queries

    load = queries.load_queries

    def load_changed(of_package: str, file: str) -> queries.Queries:
        loaded = load(of_package, file)
        if of_package != package or name not in loaded:
            return loaded
        statement: Any = loaded[name]
        for old, new in changes:
            assert old in statement, f"{name} has no {old!r} any more"
            statement = statement.replace(old, new)
        return queries.Queries(f"{of_package}/{file}", {**loaded, name: statement})

    _put(queries, "load_queries", load_changed)


def _forget_to_cancel_some() -> None:
    _change_statement(
        "services.campaign.delivery",
        "cancel_queued",
        ("SET status = 10", "SET status = CASE WHEN m.number % 10 = 0 THEN m.status ELSE 10 END"),
        ("new.status AS new_status", "10::smallint AS new_status"),
    )


def _send_again_what_is_unknown() -> None:
    from outreach.sending.outcomes import NotSent
    from services.sender_sms import adapter

    _put(adapter, "_unknown", lambda *_: NotSent("broken on purpose"))


def _forget_what_had_begun() -> None:
    from outreach.sending.journal import Journal

    _put(Journal, "begun", lambda *_: None)


def _store_other_ids() -> None:
    _change_statement(
        "services.campaign.delivery",
        "apply_reports",
        (
            "coalesce(m.provider_message_id, r.provider_message_id)",
            "coalesce(m.provider_message_id, reverse(r.provider_message_id))",
        ),
    )


def _miscount() -> None:
    from outreach.vocabulary import MessageStatus
    from services.campaign.domain.lifecycle import Counts

    moved = Counts.moved

    def miscounted(self: Counts, moves: Iterable[tuple[int, int]]) -> Counts:
        told = [*moves]
        if (MessageStatus.SENT, MessageStatus.DELIVERED) in told:
            told.remove((MessageStatus.SENT, MessageStatus.DELIVERED))
            told.append((MessageStatus.SENT, MessageStatus.OPTED_OUT))
        return moved(self, told)

    _put(Counts, "moved", miscounted)


def _let_statuses_fall() -> None:
    from outreach.vocabulary import Channel, MessageStatus
    from services.campaign.delivery import reports
    from services.campaign.domain.lifecycle import edge_codes, report_edges

    back = (MessageStatus.DELIVERED, MessageStatus.SENT, None)
    edges = {channel: edge_codes([*report_edges(channel), back]) for channel in Channel}
    _put(reports, "_EDGES", edges)


def _drop_the_channel_s_lock() -> None:
    from services.campaign.usecases import run_campaign

    begin_run: Any = vars(run_campaign)["begin_run"]

    async def begin_unlocked(connection: Any, *arguments: Any, **named: Any) -> Any:
        await connection.execute("DROP INDEX IF EXISTS campaign_channel_lock")
        return await begin_run(connection, *arguments, **named)

    _put(run_campaign, "begin_run", begin_unlocked)


def _go_on_after_a_stop() -> None:
    from outreach.sending.stops import StopListener
    from outreach.vocabulary import CampaignStatus
    from services.campaign.delivery import changes, sweepers

    def is_in_progress(campaign: changes.LockedCampaign) -> bool:
        return campaign.status is CampaignStatus.IN_PROGRESS

    async def hear_nothing(_: StopListener) -> None:
        await asyncio.Event().wait()

    _put(changes.LockedCampaign, "sending_allowed", property(is_in_progress))
    _put(sweepers, "_still_applies", lambda query, _: query != "cancel_queued")
    _put(StopListener, "run", hear_nothing)


def _skip_commits_in_a_watch() -> None:
    from services.campaign.watch.campaign_feed import CampaignFeed

    after = CampaignFeed.after

    async def after_the_next(self: CampaignFeed, position: int) -> Sequence[Any]:
        commits = await after(self, position)
        return commits[1:] if len(commits) > 1 else commits

    _put(CampaignFeed, "after", after_the_next)


def _complete_early() -> None:
    from services.campaign.domain.lifecycle import Counts

    _put(Counts, "active", property(lambda counts: counts.queued + counts.sending))


def _ignore_opt_outs() -> None:
    _change_statement(
        "services.campaign.delivery",
        "claim_messages",
        ("s.recipient_hash IS NOT NULL OR c.recipient = '' AS", "c.recipient = '' AS"),
    )


def _believe_any_webhook() -> None:
    from services.sender_email.webhook_keys import SignedBody
    from services.sender_sms import webhooks

    _put(webhooks, "is_signed", lambda *_: True)
    _put(SignedBody, "is_by", lambda *_: True)


def _keep_memory() -> None:
    from services.campaign.delivery.claims import Claims

    claim, kept = Claims.claim, []

    async def claim_and_keep(self: Claims, *arguments: Any) -> Any:
        kept.append(b"x" * 16_000_000)
        return await claim(self, *arguments)

    _put(Claims, "claim", claim_and_keep)


def _has_stop(plan: Plan) -> bool:
    return all(campaign.stop_share for campaign in plan.campaigns[:1])


def _has_unanswered_sms(plan: Plan) -> bool:
    lost = ("drop_after_accept_share", "http_500_after_accept_share")
    return any(plan.knobs.get(name, 0.0) > _SMALL_SHARE for name in lost)


def _has_late_receipts(plan: Plan) -> bool:
    return bool(plan.knobs.get("callback_reordered_share", 0.0) > _SMALL_SHARE)


def _has_slow_receipts(plan: Plan) -> bool:
    # A receipt that comes before the dead sender's journal is adopted tells of the message in time.
    return bool(plan.knobs.get("callback_delay_ms_min", 0) >= 1_000)


BREAKS: Final[dict[str, Break]] = {
    "cancel-forgets-rows": Break(
        invariant="I1",
        text="a stop counts every tenth queued message as cancelled and leaves it queued",
        install=_forget_to_cancel_some,
        occasion=_has_stop,
    ),
    "unknown-is-resent": Break(
        invariant="I2",
        text="an SMS whose answer was lost is handed back as not sent",
        install=_send_again_what_is_unknown,
        occasion=_has_unanswered_sms,
    ),
    "journal-forgets-begun": Break(
        invariant="I2",
        text="the flight journal does not note what had begun, so a killed sender's is handed back",
        install=_forget_what_had_begun,
        occasion=_has_slow_receipts,
        kinds=("crash-at:request-answered",),
    ),
    "ids-are-stored-backwards": Break(
        invariant="I3",
        text="the provider's id of a message is stored as another one",
        install=_store_other_ids,
    ),
    "counts-are-off": Break(
        invariant="I4",
        text="a delivery in each batch of reports is counted as an opt-out",
        install=_miscount,
    ),
    "statuses-fall": Break(
        invariant="I5",
        text="a late 'sent' turns a delivered message back into a sent one",
        install=_let_statuses_fall,
        occasion=_has_late_receipts,
    ),
    "channel-has-no-lock": Break(
        invariant="I6",
        text="the index that lets one campaign hold a channel is gone",
        install=_drop_the_channel_s_lock,
        occasion=lambda plan: plan.clients.competitor,
    ),
    "stop-is-not-heeded": Break(
        invariant="I7",
        text="claims, the dispatcher, the canceller and the senders go on after a stop",
        install=_go_on_after_a_stop,
        occasion=_has_stop,
    ),
    "watch-skips-commits": Break(
        invariant="I8",
        text="of several commits that a watcher is told together the first is left out",
        install=_skip_commits_in_a_watch,
    ),
    "sent-counts-as-final": Break(
        invariant="I9",
        text="a campaign is complete when nothing is queued or being sent",
        install=_complete_early,
    ),
    "opt-outs-are-ignored": Break(
        invariant="I10",
        text="a claim does not look at who has opted out",
        install=_ignore_opt_outs,
        occasion=lambda plan: plan.clients.opt_outs > 0,
    ),
    "signatures-are-not-checked": Break(
        invariant="I11",
        text="a webhook is believed whoever has signed it",
        install=_believe_any_webhook,
        occasion=lambda plan: plan.clients.forged > 0,
    ),
    "claims-are-kept": Break(
        invariant="I12",
        text="each claim leaves 16 MB behind",
        install=_keep_memory,
        occasion=lambda plan: plan.topology.campaign_replicas == 1,
    ),
}

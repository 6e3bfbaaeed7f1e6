"""A small history in which much happened and every promise held: what the checker's tests break."""

from __future__ import annotations

from chaos.history import (
    Acted,
    ActionKind,
    Bounds,
    CampaignSeen,
    Exported,
    FaultDone,
    Forged,
    History,
    OptedOut,
    Sampled,
)
from outreach.vocabulary import Channel, FailureReason, MessageStatus
from tests.chaos.made_history import Clock, MadeCampaign, history_of

S = MessageStatus
R = FailureReason
SMS, OTHER_SMS, EMAIL, DELETED = "1", "2", "3", "4"

WINDOW_SECONDS = 10.0
REQUEST_SECONDS = 4.0


class Story:
    """Campaigns as they go on; a test may have something happen differently in between."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sms = MadeCampaign(SMS, Channel.SMS, 10, self.clock)
        self.other_sms = MadeCampaign(OTHER_SMS, Channel.SMS, 4, self.clock)
        self.email = MadeCampaign(EMAIL, Channel.EMAIL, 5, self.clock)
        self.deleted = MadeCampaign(DELETED, Channel.SMS, 2, self.clock)
        self.seen: list[CampaignSeen] = []
        self.exports: list[Exported] = []

    def look(self) -> None:
        """A client lists all campaigns."""
        self.seen += [
            made.seen("list") for made in (self.sms, self.other_sms, self.email, self.deleted)
        ]

    def begin_first(self) -> None:
        """Until the first campaign's first run goes on to its end: 1 to 3 and 5 are SENDING, 4 is queued again."""
        self.look()
        self.sms.run()
        self.sms.claim(1, 2, 3, 4, 5, opted_out=[6])
        self.sms.accept(1, 2, 3)
        self.sms.report(S.QUEUED, 4)
        self.look()

    def stop_first(self) -> None:
        """All kinds of ends; then the run is stopped, 7 to 10 are cancelled, and a receipt comes late."""
        sms = self.sms
        sms.report(S.SENT, 1, 2)
        sms.tell_ids()
        sms.report(S.DELIVERED, 3)
        sms.claim(4)
        sms.accept(4)
        sms.report(S.SENT, 4)
        sms.report(S.DELIVERED, 1)
        sms.report(S.ASSUMED_DELIVERED, 2)
        sms.report(S.FAILED, 4, reason=R.UNREACHABLE)
        sms.stop()
        sms.report(S.CANCELLED, 7, 8, 9, 10)
        sms.report(S.FAILED, 5, reason=R.UNCONFIRMED)
        sms.report(S.DELIVERED, 2)
        self.exports.append(self.sms.exported(final=False))

    def retry_first(self) -> None:
        """By force also 5, which nobody had told of; 8 is handed back once, and told of at last."""
        sms = self.sms
        sms.retry(4, 5, 7, 8, forced=True)
        sms.claim(8)
        sms.report(S.QUEUED, 8)
        sms.send(4, 5, 7)
        sms.claim(8)
        sms.accept(8)
        sms.report(S.FAILED, 8, reason=R.UNCONFIRMED)
        sms.report(S.DELIVERED, 8)

    def second(self) -> None:
        """The next campaign on the channel."""
        self.other_sms.run()
        self.other_sms.send(1, 2, 3)
        self.look()
        self.other_sms.claim(4)
        self.other_sms.report(S.FAILED, 4, reason=R.INVALID_RECIPIENT)

    def emails(self) -> None:
        """One is deferred, one never heard of again, one bounces in the end."""
        email = self.email
        email.run()
        email.claim(1, 2, 3, 4, 5)
        email.accept(1, 2, 3, 4, 5)
        email.report(S.RETRYING, 3)
        email.report(S.SENT, 1, 2, 4, 5)
        email.report(S.DELIVERED, 1, 2, 4)
        self.exports.append(email.exported(final=False))
        email.report(S.FAILED, 5, reason=R.UNCONFIRMED)
        self.look()
        email.report(S.DELIVERED, 3)
        email.report(S.FAILED, 1, reason=R.MAILBOX_UNAVAILABLE)

    def to_the_end(self) -> Story:
        """All of it."""
        self.begin_first()
        self.stop_first()
        self.retry_first()
        self.second()
        self.emails()
        self.deleted.run()
        self.deleted.send(1, 2)
        self.look()
        self.exports.append(self.email.exported(final=True))
        return self

    def told(self) -> History:
        """What is known of it; the last campaign was deleted."""
        stored = history_of(self.sms, self.other_sms, self.email, **self._beside())
        gone = history_of(self.deleted, bounds=stored.bounds)
        stored.acceptances += gone.acceptances
        stored.actions += gone.actions
        stored.watched += gone.watched
        stored.actions.append(
            Acted(
                kind=ActionKind.DELETE,
                campaign_id=DELETED,
                begun_time=self.clock.time,
                answered_time=None,
                ok=None,
            )
        )
        return stored

    def _beside(self) -> dict[str, object]:
        begun = 1_000.0
        return {
            "bounds": Bounds(
                send_window_seconds=WINDOW_SECONDS,
                sms_request_seconds=REQUEST_SECONDS,
                email_request_seconds=REQUEST_SECONDS,
                unsent_unconfirmed_max=1,
                rss_bytes_max={"campaign-1": 100},
                jetstream_messages_max=50,
            ),
            "seen": self.seen,
            "exports": self.exports,
            "opt_outs": [
                OptedOut(
                    channel=Channel.SMS,
                    recipient=self.sms.recipient(6),
                    source="reply",
                    committed_time=begun - 5,
                ),
                OptedOut(
                    channel=Channel.SMS,
                    recipient=self.sms.recipient(1),
                    source="reply",
                    committed_time=begun - 5,
                    ended_time=begun - 2,
                ),
                OptedOut(
                    channel=Channel.EMAIL,
                    recipient=self.email.recipient(2),
                    source="link",
                    committed_time=self.clock.time,
                ),
            ],
            "forged": [
                Forged(
                    kind="wrong signature",
                    channel=Channel.SMS,
                    time=begun,
                    http_status=403,
                    must_refuse=True,
                    campaign_id=SMS,
                    number=9,
                    claimed_status=S.DELIVERED,
                    mark="SMforged",
                ),
                Forged(
                    kind="replayed",
                    channel=Channel.SMS,
                    time=self.clock.time,
                    http_status=204,
                    must_refuse=False,
                    campaign_id=SMS,
                    number=1,
                    claimed_status=S.DELIVERED,
                ),
            ],
            "samples": [
                Sampled(source="campaign-1", time=begun, rss_bytes=90, tasks=5),
                Sampled(source="nats", time=begun, jetstream_messages=40),
            ],
            "faults": [
                FaultDone(kind="kill", target="sender-sms-1", begun_time=begun, ended_time=begun)
            ],
        }


def good_history() -> History:
    """Of which `check` finds nothing."""
    return Story().to_the_end().told()

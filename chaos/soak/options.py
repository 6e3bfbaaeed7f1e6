"""What a soak is told to do, and the stack that it needs for that."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos.faults import Topology
from chaos.soak.allowed import EMAIL_REQUEST_SECONDS, SEND_WINDOW_SECONDS, SMS_REQUEST_SECONDS
from chaos.soak.lanes import PACE_SHARE
from chaos.stack import ChaosOptions
from outreach.vocabulary import Channel

# Something of all that providers do, and nothing of which it is never known whether it was sent.
_KNOBS: Final[dict[str, Any]] = {
    "latency_ms": 40,
    "latency_jitter_ms": 40,
    # A sender rests a second after each: with 1 % a channel does not come to 50 messages/s.
    "http_429_share": 0.0005,
    "http_500_after_accept_share": 0.002,
    "drop_after_accept_share": 0.002,
    "rejected_codes": {21610: 0.002, 21408: 0.005},
    "failed_codes": {30003: 0.02, 30005: 0.01},
    "no_receipt_share": 0.01,
    "callback_delay_ms_min": 100,
    "callback_delay_ms_max": 1_500,
    "callback_duplicated_share": 0.02,
    "callback_reordered_share": 0.05,
    "callback_early_share": 0.02,
    "callback_retry_seconds": 10,
    "email": {
        "latency_ms": 100,
        "deferred_then_delivered_share": 0.02,
        "deferral_seconds": 2,
        "bounced_classes": {"Invalid Address": 0.02},
        "dropped_reasons": {"Bounced Address": 0.005, "Unsubscribed Address": 0.002},
        "bounced_after_delivery_share": 0.005,
        "open_share": 0.1,
        "event_delay_ms_min": 100,
        "event_delay_ms_max": 1_500,
        "event_duplicated_share": 0.02,
        "event_reordered_share": 0.05,
        "event_retry_seconds": 20,
    },
}


@dataclass(frozen=True, kw_only=True)
class SoakOptions:
    """How to soak.

    Attributes:
        seconds: for how long campaigns are begun.
        rate: messages a second of both channels together.
        fault_every_seconds: between the beginnings of two faults; None: no faults.
        directory: where samples, violations and the processes' logs go.
        seed: of the faults and of the provider's fates.
    """

    seconds: float
    rate: float = 200.0
    fault_every_seconds: float | None = 60.0
    directory: Path
    seed: int = 1
    topology: Topology = field(
        default_factory=lambda: Topology(
            campaign_replicas=2, sender_replicas=2, email_sender_replicas=2, export_replicas=2
        )
    )

    @property
    def campaign_seconds(self) -> float:
        """How much sending is one campaign.

        Its last messages take half a minute to become final, and hold the channel meanwhile: at 30 s a soak does not
        come to its rate.
        """
        return min(120.0, max(30.0, self.seconds / 10))


def stack_options(options: SoakOptions, data_dir: Path) -> ChaosOptions:
    """Two replicas of everything, timers so short that a campaign ends in a minute, and old data removed."""
    pace = round(options.rate / len(Channel) * PACE_SHARE)
    settings = {
        "ASSUMED_DELIVERED_AFTER_SECONDS": 8,
        "LOOK_UP_AFTER_SECONDS": 3,
        "UNCONFIRMED_AFTER_SECONDS": 30,
        "SEND_WINDOW_SECONDS": SEND_WINDOW_SECONDS,
        "EMAIL_LOOK_UP_AFTER_SECONDS": 6,
        "EMAIL_TIMED_OUT_AFTER_SECONDS": 40,
        "SENDER_SMS_REQUEST_SECONDS_MAX": SMS_REQUEST_SECONDS,
        "SENDER_EMAIL_REQUEST_SECONDS_MAX": EMAIL_REQUEST_SECONDS,
        "RETENTION_DELETE_AFTER_DAYS": 0.004,
        # A campaign is checked a minute or two after its end, and needs its log for that.
        "CHANGE_LOG_KEPT_SECONDS": 600,
        "BOOTSTRAP_SEGMENTS_PER_SECOND_MAX": pace,
        "BOOTSTRAP_EMAILS_PER_SECOND_MAX": pace,
    }
    topology = options.topology
    return ChaosOptions(
        campaign_replicas=topology.campaign_replicas,
        sender_replicas=topology.sender_replicas,
        email_sender_replicas=topology.email_sender_replicas,
        export_replicas=topology.export_replicas,
        seed=f"soak-{options.seed}",
        knobs=_KNOBS,
        settings={f"OUTREACH_{name}": str(value) for name, value in settings.items()},
        data_dir=data_dir,
        durable=True,
    )

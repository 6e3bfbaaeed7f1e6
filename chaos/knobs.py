"""How the provider misbehaves in a run: the sandbox's knobs, drawn by the seed. Pure.

Each seed draws some of the faults, not all of them: what comes rarely together with something else
has to come alone sometimes.
"""

from __future__ import annotations

import random

from services.sandbox.knobs import Knobs
from services.sandbox.sendgrid.knobs import EmailKnobs

#: Twilio tries a callback five times; spread over so many seconds, it outlasts a process's restart.
CALLBACK_RETRY_SECONDS = 10.0
#: SendGrid's ten tries of a post of events.
EVENT_RETRY_SECONDS = 20.0
#: A deferral that never ends is given up by the provider after this.
DEFERRAL_EXPIRES_SECONDS = 3.0


def draw_knobs(chance: random.Random) -> Knobs:
    """The knobs of both halves."""
    late = chance.random() < 0.2
    return Knobs(
        latency_ms=chance.randint(20, 120),
        latency_jitter_ms=chance.choice((0, 40, 120)),
        http_429_share=chance.choice((0.0, 0.0, 0.02, 0.15)),
        http_500_before_accept_share=chance.choice((0.0,) * 7 + (0.01,)),
        drop_before_accept_share=chance.choice((0.0,) * 7 + (0.01,)),
        http_500_after_accept_share=chance.choice((0.0, 0.0, 0.01, 0.03)),
        drop_after_accept_share=chance.choice((0.0, 0.0, 0.01, 0.03)),
        rejected_codes=chance.choice(({}, {21610: 0.02, 21408: 0.02})),
        failed_codes={30003: 0.02, 30005: 0.01, 30036: 0.01},
        no_receipt_share=chance.choice((0.0, 0.0, 0.02)),
        callback_delay_ms_min=1_000 if late else 50,
        callback_delay_ms_max=3_000 if late else 900,
        callback_lost_share=chance.choice((0.0, 0.0, 0.03)),
        callback_duplicated_share=chance.choice((0.0, 0.05, 0.3)),
        callback_reordered_share=chance.choice((0.0, 0.05, 0.5)),
        callback_early_share=chance.choice((0.0, 0.02, 0.2)),
        callback_retry_seconds=CALLBACK_RETRY_SECONDS,
        list_lag_seconds=chance.choice((0.0, 1.0)),
        email=_draw_email_knobs(chance, late=late),
    )


def _draw_email_knobs(chance: random.Random, *, late: bool) -> EmailKnobs:
    return EmailKnobs(
        latency_ms=chance.randint(50, 500),
        http_429_share=chance.choice((0.0, 0.0, 0.2)),
        http_500_after_accept_share=chance.choice((0.0, 0.0, 0.2)),
        drop_after_accept_share=chance.choice((0.0, 0.0, 0.2)),
        rejected_share=chance.choice((0.0, 0.002)),
        rejected_unnamed_share=chance.choice((0.0, 0.0, 0.001)),
        deferred_then_delivered_share=0.02,
        deferred_for_ever_share=chance.choice((0.0, 0.01)),
        deferral_seconds=1.5,
        deferral_expires_seconds=DEFERRAL_EXPIRES_SECONDS,
        bounced_classes={"Invalid Address": 0.02},
        blocked_classes={"Reputation": 0.01},
        dropped_reasons={"Bounced Address": 0.005, "Unsubscribed Address": 0.005},
        bounced_after_delivery_share=chance.choice((0.0, 0.01)),
        open_share=0.1,
        click_share=0.05,
        spamreport_share=chance.choice((0.0, 0.005)),
        unsubscribe_share=chance.choice((0.0, 0.01)),
        event_delay_ms_min=1_000 if late else 50,
        event_delay_ms_max=3_000 if late else 900,
        event_lost_share=chance.choice((0.0, 0.0, 0.0, 0.03)),
        event_duplicated_share=chance.choice((0.0, 0.05, 0.3)),
        event_reordered_share=chance.choice((0.0, 0.05, 0.5)),
        event_fields_missing_share=chance.choice((0.0, 0.05)),
        event_batch_wait_ms=100,
        event_retry_seconds=EVENT_RETRY_SECONDS,
        look_up_lag_seconds=chance.choice((0.0, 1.0)),
    )

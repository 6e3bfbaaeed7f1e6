from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.sandbox.fates import Fates, TransportFault, fate_of
from services.sandbox.knobs import Knobs

NUMBERS = [f"+1512{number:07d}" for number in range(20_000)]


def test_a_fate_is_fixed_by_seed_and_number_for_ever() -> None:
    knobs = Knobs(failed_codes={30003: 0.5}, callback_delay_ms_min=0, callback_delay_ms_max=1000)
    fates = [fate_of(knobs, "outreach", to) for to in NUMBERS[:5]]
    # Golden: a change of the hash would silently change what every seeded run expects.
    assert [fate.final_status for fate in fates] == [
        "undelivered",
        "delivered",
        "undelivered",
        "undelivered",
        "undelivered",
    ]
    assert fates[0].final_delay_seconds == pytest.approx(0.753618645)


def test_fates_do_not_depend_on_the_order_of_asking() -> None:
    knobs = Knobs(failed_codes={30003: 0.3}, no_receipt_share=0.2, callback_lost_share=0.1)
    forwards = [Fates(knobs, "s").of(to) for to in NUMBERS[:500]]
    fates = Fates(knobs, "s")
    backwards = [fates.of(to) for to in reversed(NUMBERS[:500])]
    assert forwards == backwards[::-1]
    assert forwards != [fate_of(knobs, "other", to) for to in NUMBERS[:500]]


def test_shares_come_out_and_faults_exclude_each_other() -> None:
    knobs = Knobs(
        rejected_codes={21610: 0.02, 21211: 0.03},
        failed_codes={30003: 0.04, 30001: 0.01},
        no_receipt_share=0.05,
        http_429_share=0.01,
        http_500_before_accept_share=0.02,
        drop_before_accept_share=0.03,
        http_500_after_accept_share=0.04,
        drop_after_accept_share=0.05,
        callback_lost_share=0.1,
        callback_early_share=0.1,
        callback_reordered_share=0.2,
    )
    fates = [fate_of(knobs, "s", to) for to in NUMBERS]
    parts: Counter[Any] = Counter()
    for fate in fates:
        parts[fate.rejected_code, "rejected"] += 1
        parts[fate.transport_fault] += 1
        parts[fate.final_status, fate.error_code] += 1
        parts["early"] += fate.early
        parts["reordered"] += fate.reordered
        parts["lost"] += fate.lost_steps & 1
        assert fate.rejected_code is None or fate.transport_fault is None
    for outcome, share in {
        (21610, "rejected"): 0.02,
        (21211, "rejected"): 0.03,
        TransportFault.HTTP_429: 0.01 * 0.95,
        TransportFault.HTTP_500_BEFORE_ACCEPT: 0.02 * 0.95,
        TransportFault.DROP_BEFORE_ACCEPT: 0.03 * 0.95,
        TransportFault.HTTP_500_AFTER_ACCEPT: 0.04 * 0.95,
        TransportFault.DROP_AFTER_ACCEPT: 0.05 * 0.95,
        ("undelivered", 30003): 0.04,
        ("failed", 30001): 0.01,
        ("sent", 0): 0.05,
        ("delivered", 0): 0.9,
        "early": 0.1,
        "reordered": 0.2,
        "lost": 0.1,
    }.items():
        assert parts[outcome] / len(fates) == pytest.approx(share, abs=0.01), outcome


@given(st.integers(10**6, 10**15 - 1))
def test_without_faults_every_number_is_delivered(digits: int) -> None:
    fate = fate_of(Knobs(callback_delay_ms_min=5, callback_delay_ms_max=7), "s", f"+{digits}")
    assert (fate.final_status, fate.receipt, fate.error_code) == ("delivered", "delivered", 0)
    assert fate.rejected_code is None
    assert fate.transport_fault is None
    assert 0.005 <= fate.final_delay_seconds <= 0.007


def test_the_receipt_is_what_callbacks_tell() -> None:
    assert fate_of(Knobs(callback_lost_share=1), "s", "+15125550001").receipt is None
    assert fate_of(Knobs(no_receipt_share=1), "s", "+15125550001").receipt is None
    assert fate_of(Knobs(failed_codes={30007: 1}), "s", "+15125550001").receipt == "undelivered"
    assert fate_of(Knobs(failed_codes={30001: 1}), "s", "+15125550001").receipt == "failed"


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"latencyms": 1}, "latencyms"),
        ({"no_receipt_share": 1.5}, "less than or equal to 1"),
        ({"no_receipt_share": -0.1}, "greater than or equal to 0"),
        ({"failed_codes": {"30003": 0.6, "30007": 0.6}}, "add up to 1.2"),
        ({"http_429_share": 0.6, "drop_after_accept_share": 0.6}, "add up to 1.2"),
        ({"rejected_codes": {"21610": "many"}}, "valid number"),
        ({"failed_codes": {"7": 0.1}}, "greater than or equal to 10000"),
        ({"callback_delay_ms_min": 10, "callback_delay_ms_max": 5}, "less than"),
        ({"callback_statuses": ["delivered"]}, "unknown"),
        ({"latency_ms": float("nan")}, "finite"),
    ],
)
def test_wrong_knobs_are_refused_by_name(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Knobs.model_validate(knobs)

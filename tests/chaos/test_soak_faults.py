"""Which faults a soak injects: never one that ends a process whose memory is to be seen for the whole soak."""

from __future__ import annotations

import random
from itertools import islice

from chaos.faults import FAULTS, Topology
from chaos.faults.crash_points import Crashed
from chaos.soak.disturbance import LEFT_OUT, faults_in_turn

TOPOLOGY = Topology(
    campaign_replicas=2, sender_replicas=2, email_sender_replicas=2, export_replicas=2
)


def test_every_kind_comes_in_each_round() -> None:
    kinds = FAULTS.keys() - LEFT_OUT
    faults = faults_in_turn(FAULTS, TOPOLOGY, random.Random(1))
    for _ in range(3):
        assert sorted(fault.kind for fault in islice(faults, len(kinds))) == sorted(kinds)


def test_no_first_replica_is_ended() -> None:
    for seed in range(20):
        faults = faults_in_turn(FAULTS, TOPOLOGY, random.Random(seed))
        for fault in islice(faults, 3 * len(FAULTS)):
            if fault.kind.startswith("kill-"):
                assert not fault.target.endswith("-1"), fault
            if isinstance(fault, Crashed):
                assert fault.processes
                ended = (*fault.processes, fault.killed_first)
                assert not any(name.endswith("-1") for name in ended), fault


def test_first_replicas_are_hit_by_others() -> None:
    faults = faults_in_turn(FAULTS, TOPOLOGY, random.Random(2))
    targets = {fault.target for fault in islice(faults, 10 * len(FAULTS))}
    assert {"campaign-1", "sender-sms-1", "sender-email-1", "export-1"} <= targets

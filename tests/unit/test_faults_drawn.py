"""Faults as they are drawn: the same for the same seed, and of something that there is."""

from __future__ import annotations

from random import Random

import pytest

from chaos.crashes import ARMABLE
from chaos.faults import FAULTS, Topology
from chaos.stack import links_of

ALONE = Topology()
MANY = Topology(campaign_replicas=3, sender_replicas=2, email_sender_replicas=2, export_replicas=2)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("topology", [ALONE, MANY])
def test_a_fault_is_its_seed_s_and_hits_what_there_is(name: str, topology: Topology) -> None:
    links = links_of(topology.campaigns, topology.senders, topology.exports)
    targets = {
        *topology.services, "postgres", "nats", "sandbox", "all",
        "campaign", "sender-sms", "sender-email",
        *(f"{source} to {target}" for source, target in links),
    }  # fmt: skip
    for seed in range(10):
        fault = FAULTS[name].draw(Random(seed), topology)
        assert fault == FAULTS[name].draw(Random(seed), topology)
        assert (fault.kind, fault.target in targets) == (name, True)
        assert fault.hold_seconds >= 0
        assert isinstance(fault.details, str)
    assert FAULTS[name].draw(Random(1), topology, long=True).kind == name


def test_every_crash_point_is_a_kind() -> None:
    assert {f"crash-at:{point}" for point in ARMABLE} <= set(FAULTS)


def test_a_link_fault_hits_every_kind_of_link() -> None:
    drawn = {FAULTS["link-cut"].draw(Random(seed), MANY).target for seed in range(2_000)}
    links = links_of(MANY.campaigns, MANY.senders, MANY.exports)
    assert drawn == {f"{source} to {target}" for source, target in links}

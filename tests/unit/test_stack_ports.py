"""Ports of a local stack: nobody else's, and the same at the next start."""

import socket
from pathlib import Path

from outreach.local.ports import HOST, PORTS, free_port
from outreach.local.stack_state import StackPorts

NAMES = [f"listener-{number}" for number in range(20)]


def test_each_has_its_own_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    taken = StackPorts(path, {}).take(NAMES)
    assert sorted(taken) == sorted(NAMES)
    assert len(set(taken.values())) == len(NAMES)
    assert all(port in PORTS for port in taken.values())
    assert StackPorts(path, {}).take(NAMES) == taken


def test_a_busy_one_is_replaced_and_a_given_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    taken = StackPorts(path, {}).take(NAMES)
    with socket.socket() as busy:
        busy.bind((HOST, taken[NAMES[0]]))
        busy.listen()
        again = StackPorts(path, {NAMES[1]: taken[NAMES[0]]}).take(NAMES)
    assert again[NAMES[0]] != taken[NAMES[0]]
    assert again[NAMES[1]] == taken[NAMES[0]], "who can't have it says so"
    assert [again[name] for name in NAMES[2:]] == [taken[name] for name in NAMES[2:]]


def test_a_free_port_is_below_those_that_anybody_gets() -> None:
    with socket.socket() as probe:
        probe.bind((HOST, free_port()))
        assert probe.getsockname()[1] in PORTS

"""The faults of chaos runs: `FAULTS` has every kind by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chaos.faults import clocks, crash_points, jetstream, links, processes, provider
from chaos.faults.fault import Fault, FaultKind, Topology

__all__ = ["FAULTS", "Fault", "FaultKind", "Topology"]

FAULTS: Final[Mapping[str, FaultKind]] = {
    kind.name: kind
    for family in (processes, links, jetstream, clocks, provider, crash_points)
    for kind in family.KINDS
}
"""Every kind of fault, by its name."""

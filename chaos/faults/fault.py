"""What a fault is: drawn from a seed, described, and injected into a running stack."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from random import Random
from typing import Final

from chaos.stack import ChaosStack

#: Requests that a sender has under way at once, at most: its setting's default.
SMS_CALLS_MAX: Final = 100
EMAIL_CALLS_MAX: Final = 8
#: A request is given up, and another one begun, no sooner.
REQUEST_SECONDS_MIN: Final = 4.0
#: A webhook that is not stored is made again; for so long at least, by the knobs of runs.
RECEIPT_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Which processes there are; what a fault chooses its target from."""

    campaign_replicas: int = 1
    sender_replicas: int = 1
    email_sender_replicas: int = 1
    export_replicas: int = 1

    @property
    def campaigns(self) -> tuple[str, ...]:
        """The campaign service's replicas."""
        return _numbered("campaign", self.campaign_replicas)

    @property
    def sms_senders(self) -> tuple[str, ...]:
        """The SMS senders."""
        return _numbered("sender-sms", self.sender_replicas)

    @property
    def email_senders(self) -> tuple[str, ...]:
        """The email senders."""
        return _numbered("sender-email", self.email_sender_replicas)

    @property
    def senders(self) -> tuple[str, ...]:
        """All senders."""
        return self.sms_senders + self.email_senders

    @property
    def exports(self) -> tuple[str, ...]:
        """The export service's replicas."""
        return _numbered("export", self.export_replicas)

    @property
    def services(self) -> tuple[str, ...]:
        """All that runs the product's code."""
        return self.campaigns + self.senders + self.exports


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault(ABC):
    """One fault; what it does to what, and what the history of its run may show because of it.

    Attributes:
        kind: the name of its kind in FAULTS.
        target: a process, a link (`sender-sms-1 to sandbox`), or what else it hits.
        hold_seconds: so long a request may lie between its sender and the provider by it.
        receipts_lost: receipts that were stored, or could not be stored in time, may be lost.
        unsent_max: calls to a provider that it may hit on their way, so that nobody ever learns of them.
    """

    kind: str
    target: str
    hold_seconds: float = 0.0
    receipts_lost: bool = False
    unsent_max: int = 0

    @property
    def details(self) -> str:
        """What the kind's own parameters are, for people."""
        general = {field.name for field in fields(Fault)}
        own = [field.name for field in fields(self) if field.name not in general]
        return ", ".join(f"{name} {_shown(getattr(self, name))}" for name in own)

    @abstractmethod
    async def inject(self, stack: ChaosStack) -> None:
        """Do it; returns once it is over and every process is up again."""


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault: its name, one sentence, and how one is drawn.

    `make` gets the source of chance, the topology, and whether the long form is wanted.
    """

    name: str
    summary: str
    make: Callable[[Random, Topology, bool], Fault]

    def draw(self, random: Random, topology: Topology, *, long: bool = False) -> Fault:
        """A fault of this kind: the same for the same state of `random`.

        Args:
            random: what it is drawn from.
            topology: what there is to hit.
            long: the form of two minutes, where the kind has one.
        """
        return self.make(random, topology, long)


def calls_max(senders: Sequence[str], *, seconds: float = 0.0) -> int:
    """How many calls of these senders can be hit in a moment, or in so many seconds: each slot begins another call
    when it has given one up.
    """
    at_once = sum(EMAIL_CALLS_MAX if "email" in sender else SMS_CALLS_MAX for sender in senders)
    return at_once * (1 + math.ceil(seconds / REQUEST_SECONDS_MIN))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return value.name if isinstance(value, Enum) else str(value)


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}-{number + 1}" for number in range(count))

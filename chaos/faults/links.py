"""Networks between two parts that fail: each fault is on one link of the stack."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from chaos.faults.fault import (
    RECEIPT_PATIENCE_SECONDS,
    Fault,
    FaultKind,
    Topology,
    calls_max,
)
from chaos.relay import Direction, Relay
from chaos.stack import ChaosStack, Link, links_of

_SECONDS: Final = (0.5, 2.0, 6.0)
_SECONDS_LONG: Final = 30.0
_CUTS_MAX: Final = 3
_BETWEEN_CUTS_SECONDS: Final = 0.5
#: A link on which nothing is said can't have a frame torn.
_FRAME_SECONDS_MAX: Final = 3.0
_POLL_SECONDS: Final = 0.02
_TO: Final = " to "


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFault(Fault):
    """A fault of one link, which its target names."""

    @property
    def link(self) -> Link:
        """Between which two parts."""
        source, _, target = self.target.partition(_TO)
        return source, target

    async def inject(self, stack: ChaosStack) -> None:
        await self.strike(stack.links[self.link])

    @abstractmethod
    async def strike(self, relay: Relay) -> None:
        """Do it to the link's relay; returns when it is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(LinkFault):
    """All connections are reset, once or several times."""

    times: int

    async def strike(self, relay: Relay) -> None:
        for time in range(self.times):
            if time:
                await asyncio.sleep(_BETWEEN_CUTS_SECONDS)
            relay.cut()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(LinkFault):
    """Everything is taken and nothing is passed on for a while, in one direction or in both."""

    seconds: float
    directions: frozenset[Direction]

    @property
    def details(self) -> str:
        return f"{self.seconds:g} s {'+'.join(sorted(one.value for one in self.directions))}"

    async def strike(self, relay: Relay) -> None:
        async with relay.stalled(self.directions):
            await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfOpen(LinkFault):
    """One end of the open connections is gone, and the other is not told."""

    seconds: float
    gone: Direction

    async def strike(self, relay: Relay) -> None:
        async with relay.half_open(self.gone):
            await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetMidFrame(LinkFault):
    """The next bytes of each open connection are cut short by a reset."""

    direction: Direction
    seed: int

    async def strike(self, relay: Relay) -> None:
        before = relay.frames_torn
        relay.reset_mid_frame(Random(self.seed), self.direction)
        for _ in range(int(_FRAME_SECONDS_MAX / _POLL_SECONDS)):
            if relay.frames_torn > before:
                return
            await asyncio.sleep(_POLL_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trickle(LinkFault):
    """A few bytes at a time for a while."""

    seconds: float
    chunk_bytes: int

    async def strike(self, relay: Relay) -> None:
        async with relay.trickling(chunk_bytes=self.chunk_bytes):
            await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(LinkFault):
    """No new connection can be made for a while, and those that are open are reset."""

    seconds: float

    async def strike(self, relay: Relay) -> None:
        async with relay.refusing():
            relay.cut()
            await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What all link faults have in common: where, for how long, and what that may cost."""

    link: Link
    seconds: float

    @property
    def target(self) -> str:
        return _TO.join(self.link)

    @property
    def receipts_lost(self) -> bool:
        source, target = self.link
        takes_receipts = source == "sandbox" or (target == "nats" and source.startswith("sender"))
        return takes_receipts and self.seconds > RECEIPT_PATIENCE_SECONDS

    def calls(self, *, seconds: float = 0.0) -> int:
        """Calls to the provider that may be lost on this link."""
        source, target = self.link
        return calls_max([source], seconds=seconds) if target == "sandbox" else 0

    @property
    def hold_seconds(self) -> float:
        """How long it may keep a request from the provider."""
        return self.seconds if self.link[1] == "sandbox" else 0.0


def _drawn(random: Random, topology: Topology, long: bool) -> _Drawn:
    """First what kind of link, then which: many senders make no link of theirs more probable."""
    links = links_of(topology.campaigns, topology.senders, topology.exports)
    kinds = sorted({_kind_of(link) for link in links})
    kind = random.choice(kinds)
    link = random.choice([link for link in links if _kind_of(link) == kind])
    return _Drawn(link, _SECONDS_LONG if long else random.choice(_SECONDS))


def _kind_of(link: Link) -> Link:
    source, target = (name.rstrip("0123456789-") for name in link)
    return source, target


def _cut(kind: str, random: Random, drawn: _Drawn) -> Fault:
    times = random.randint(1, _CUTS_MAX)
    return Cut(
        kind=kind,
        target=drawn.target,
        times=times,
        unsent_max=times * drawn.calls(),
    )


def _stall(kind: str, random: Random, drawn: _Drawn) -> Fault:
    up, down = frozenset({Direction.UP}), frozenset({Direction.DOWN})
    return Stall(
        kind=kind,
        target=drawn.target,
        seconds=drawn.seconds,
        directions=random.choice((up | down, up | down, up, down)),
        hold_seconds=drawn.hold_seconds,
        receipts_lost=drawn.receipts_lost,
        unsent_max=drawn.calls(seconds=drawn.seconds),
    )


def _half_open(kind: str, random: Random, drawn: _Drawn) -> Fault:
    return HalfOpen(
        kind=kind,
        target=drawn.target,
        seconds=drawn.seconds,
        gone=random.choice((Direction.UP, Direction.DOWN)),
        receipts_lost=drawn.receipts_lost,
        # What is lost at once, and what is written later into a connection that was kept.
        unsent_max=2 * drawn.calls(),
    )


def _reset_mid_frame(kind: str, random: Random, drawn: _Drawn) -> Fault:
    return ResetMidFrame(
        kind=kind,
        target=drawn.target,
        direction=random.choice((Direction.UP, Direction.DOWN)),
        seed=random.randrange(2**32),
        unsent_max=drawn.calls(),
    )


def _trickle(kind: str, random: Random, drawn: _Drawn) -> Fault:
    return Trickle(
        kind=kind,
        target=drawn.target,
        seconds=drawn.seconds,
        chunk_bytes=random.choice((1, 7, 100)),
        hold_seconds=drawn.hold_seconds,
        receipts_lost=drawn.receipts_lost,
        unsent_max=drawn.calls(seconds=drawn.seconds),
    )


def _refuse(kind: str, _: Random, drawn: _Drawn) -> Fault:
    return Refuse(
        kind=kind,
        target=drawn.target,
        seconds=drawn.seconds,
        receipts_lost=drawn.receipts_lost,
        unsent_max=drawn.calls(),
    )


def _kind(name: str, summary: str, make: Callable[[str, Random, _Drawn], Fault]) -> FaultKind:
    return FaultKind(
        name,
        summary,
        lambda random, topology, long: make(name, random, _drawn(random, topology, long)),
    )


KINDS: Final = (
    _kind("link-cut", "All connections between two parts are reset.", _cut),
    _kind("link-stall", "Two parts hear nothing of each other for seconds, then all.", _stall),
    _kind("link-half-open", "One end of connections is gone, the other not told.", _half_open),
    _kind("link-reset-mid-frame", "Connections are reset inside of a frame.", _reset_mid_frame),
    _kind("link-trickle", "A few bytes at a time between two parts.", _trickle),
    _kind("link-refuse", "Two parts can't connect for seconds.", _refuse),
)

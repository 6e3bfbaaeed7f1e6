"""Jobs: pointers that tell a sender where there is work. Losing or repeating one is harmless."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import orjson

#: `send`: claim and send a range. `look_up`: ask the provider about attempts whose outcome is unknown.
JobKind = Literal["send", "look_up"]


@dataclass(frozen=True, slots=True)
class Job:
    """A range of message numbers of one run (first and last included; 0 for a look-up)."""

    kind: JobKind
    organisation_id: UUID
    campaign_id: UUID
    run: int
    first: int
    last: int
    epoch: int

    @property
    def message_id(self) -> str:
        """For JetStream's duplicate window; the epoch makes a re-dispatch another message."""
        return f"{self.kind}:{self.campaign_id}:{self.run}:{self.first}:{self.epoch}"

    def encode(self) -> bytes:
        """JSON, ids only."""
        return orjson.dumps(
            {
                "kind": self.kind,
                "organisation_id": str(self.organisation_id),
                "campaign_id": str(self.campaign_id),
                "run": self.run,
                "first": self.first,
                "last": self.last,
                "epoch": self.epoch,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "Job":
        """Raises ValueError for anything that is not a job."""
        try:
            raw = orjson.loads(data)
            kind = raw["kind"]
            if kind not in ("send", "look_up"):
                raise ValueError(f"unknown kind of job: {kind!r}")
            return cls(
                kind=kind,
                organisation_id=UUID(raw["organisation_id"]),
                campaign_id=UUID(raw["campaign_id"]),
                run=int(raw["run"]),
                first=int(raw["first"]),
                last=int(raw["last"]),
                epoch=int(raw["epoch"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("not a job") from error

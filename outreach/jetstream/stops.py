"""Stops: what senders are told when a run is stopped. Core NATS, nothing stored: a lost one costs a send window."""

from dataclasses import dataclass
from uuid import UUID

import orjson


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing of this run may begin any more."""

    campaign_id: UUID
    run: int

    def encode(self) -> bytes:
        """JSON, ids only."""
        return orjson.dumps({"campaign_id": str(self.campaign_id), "run": self.run})

    @classmethod
    def decode(cls, data: bytes) -> "Stop":
        """Raises ValueError for anything that is not a stop."""
        try:
            raw = orjson.loads(data)
            return cls(UUID(raw["campaign_id"]), int(raw["run"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("not a stop") from error

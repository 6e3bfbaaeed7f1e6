"""Etags: what a caller gives back to be sure that nobody else changed the campaign. Pure."""

import hashlib
from uuid import UUID


def etag_of(campaign_id: UUID, version: int) -> str:
    """Opaque; another one for each version of each campaign."""
    return hashlib.sha256(campaign_id.bytes + version.to_bytes(8, "big")).hexdigest()[:20]

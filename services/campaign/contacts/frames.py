"""What the import's worker process and its parent say to each other: frames over a pipe.

A frame is its kind (1 byte), the length of what follows (uint32, big-endian), and that. Parent to
worker: SPEC (JSON), then CHUNK frames (bytes of the file), then END. Worker to parent: BATCH
frames, and at the end of a refused file one REFUSED (JSON), or CRASHED (text) when the worker
itself is broken.
"""

import struct
from base64 import b64decode, b64encode
from dataclasses import asdict
from typing import Any
from uuid import UUID

import orjson

from outreach.vocabulary import Channel
from services.campaign.contacts.errors import ContactFileError, ContactLimits
from services.campaign.contacts.importer import ImportBatch, ImportCounts, ImportSpec
from services.campaign.contacts.mapping import ColumnMapping, ColumnRole, Mapping

SPEC, CHUNK, END, BATCH, REFUSED, CRASHED = range(1, 7)

HEAD = struct.Struct(">BI")
#: A longer frame than this is no frame: the pipe is out of step.
FRAME_BYTES_MAX = 256 * 1024 * 1024

_BATCH_HEAD = struct.Struct(">?11I")


def frame(kind: int, *parts: bytes) -> bytes:
    """One frame."""
    return b"".join((HEAD.pack(kind, sum(map(len, parts))), *parts))


def read_head(data: bytes) -> tuple[int, int]:
    """Kind and length of a frame; raises ValueError when it can't be one."""
    kind, length = HEAD.unpack(data)
    if not SPEC <= kind <= CRASHED or length > FRAME_BYTES_MAX:
        raise ValueError(f"no frame: kind {kind}, {length} bytes")
    return kind, length


def encode_spec(spec: ImportSpec) -> bytes:
    """The spec as JSON."""
    return orjson.dumps(
        {
            "campaign_id": str(spec.campaign_id),
            "channel": int(spec.channel),
            "encoding": spec.encoding,
            "delimiter": spec.delimiter,
            "has_header": spec.has_header,
            "columns": [[c.name, int(c.role), c.variable_name] for c in spec.mapping.columns],
            "recipient_hash_key": b64encode(spec.recipient_hash_key).decode(),
            "keep_duplicates": spec.keep_duplicates,
            "limits": asdict(spec.limits),
            "batch_rows_max": spec.batch_rows_max,
        }
    )


def decode_spec(data: bytes) -> ImportSpec:
    """What `encode_spec` made."""
    fields: dict[str, Any] = orjson.loads(data)
    columns = fields.pop("columns")
    mapping = Mapping(tuple(ColumnMapping(name, ColumnRole(role), v) for name, role, v in columns))
    return ImportSpec(
        campaign_id=UUID(fields.pop("campaign_id")),
        channel=Channel(fields.pop("channel")),
        recipient_hash_key=b64decode(fields.pop("recipient_hash_key")),
        limits=ContactLimits(**fields.pop("limits")),
        mapping=mapping,
        **fields,
    )


def encode_batch(batch: ImportBatch) -> bytes:
    """A batch as one BATCH frame."""
    counts = batch.counts
    head = _BATCH_HEAD.pack(
        batch.last,
        len(batch.contacts),
        batch.contacts_count,
        batch.first_number,
        len(batch.problems),
        batch.problems_count,
        counts.bytes_read,
        counts.rows,
        counts.imported,
        counts.invalid,
        counts.duplicates,
        counts.blank,
    )
    return frame(BATCH, head, batch.contacts, batch.problems)


def decode_batch(body: bytes) -> ImportBatch:
    """The body of a BATCH frame."""
    last, size, count, first, problems_size, problems_count, *counts = _BATCH_HEAD.unpack_from(body)
    contacts_end = _BATCH_HEAD.size + size
    return ImportBatch(
        contacts=body[_BATCH_HEAD.size : contacts_end],
        contacts_count=count,
        first_number=first,
        problems=body[contacts_end : contacts_end + problems_size],
        problems_count=problems_count,
        counts=ImportCounts(*counts),
        last=last,
    )


def encode_refusal(error: ContactFileError) -> bytes:
    """A refused file as one REFUSED frame."""
    return frame(REFUSED, orjson.dumps([error.reason, error.field, error.text, error.metadata]))


def decode_refusal(body: bytes) -> ContactFileError:
    """The body of a REFUSED frame."""
    return ContactFileError(*orjson.loads(body))

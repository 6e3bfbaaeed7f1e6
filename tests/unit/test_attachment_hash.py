"""The content hash follows the attachments."""

from uuid import UUID

from outreach.vocabulary import MissingVariablePolicy
from services.campaign.domain.content import EmailContent
from services.campaign.store.content_json import AttachmentKey, content_hash

KEEP = MissingVariablePolicy.KEEP_PLACEHOLDER


def hashed(*attachments: tuple[int, bytes]) -> str:
    keys = [AttachmentKey(UUID(int=number), sha256) for number, sha256 in attachments]
    return content_hash(EmailContent("a"), (), KEEP, attachments=keys)


def test_the_content_hash_follows_the_attachments() -> None:
    one, other = b"\x01" * 32, b"\x02" * 32
    assert hashed((1, one), (2, other)) == hashed((1, one), (2, other))
    lists = [
        (),
        ((1, one),),
        ((1, other),),
        ((2, one),),
        ((1, one), (2, other)),
        ((2, other), (1, one)),
    ]
    assert len({hashed(*attachments) for attachments in lists}) == len(lists)
    assert hashed() == content_hash(EmailContent("a"), (), KEEP)

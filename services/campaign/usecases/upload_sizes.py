"""A file that comes in against the size that was announced for it; 0: none was."""

from outreach.errors import OutreachError, Violation

#: Where a header says the size.
SIZE_FIELD = "header.size_bytes"


def size_violations(size_bytes: int) -> list[Violation]:
    """What is wrong with an announced size in itself."""
    if size_bytes >= 0:
        return []
    return [Violation(SIZE_FIELD, "FIELD_OUT_OF_RANGE", "A size is not negative.")]


def require_not_longer(received_bytes: int, announced_bytes: int) -> None:
    """Refuses what goes on after the announced end."""
    if announced_bytes and received_bytes > announced_bytes:
        text = "The file is longer than was announced."
        raise OutreachError.invalid(Violation(SIZE_FIELD, "FIELD_INVALID", text))


def require_whole(received_bytes: int, announced_bytes: int) -> None:
    """FILE_TRUNCATED when the file ended short of the announced end."""
    if received_bytes >= announced_bytes:
        return
    text = f"The file ended after {received_bytes:,} of {announced_bytes:,} bytes. Upload it again."
    raise OutreachError(
        "FILE_TRUNCATED",
        text,
        metadata={"size_bytes": str(announced_bytes), "received_bytes": str(received_bytes)},
        violations=[Violation(SIZE_FIELD, "FILE_TRUNCATED", text)],
    )

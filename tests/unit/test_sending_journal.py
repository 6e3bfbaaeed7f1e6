"""The journal: locks, rewriting, what is left when a process ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from outreach.internal.v1 import delivery_pb2
from outreach.sending.adoption import ended_instances, take_dead_journals
from outreach.sending.journal import Journal, boot_id, read_journal
from outreach.sending.outcomes import AttemptOutcome
from outreach.vocabulary import Outcome

CAMPAIGN = uuid4()


def batch(*numbers: int) -> delivery_pb2.ReportBatch:
    reports = [AttemptOutcome(n, 1, Outcome.ACCEPTED).to_report() for n in numbers]
    return delivery_pb2.ReportBatch(
        campaigns=[delivery_pb2.CampaignReports(campaign_id=str(CAMPAIGN), reports=reports)]
    )


def abandon(journal: Journal) -> None:
    """As if the process had been killed: the lock goes, the file stays."""
    os.close(journal._file)


def test_a_living_journal_is_not_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open_instance(uuid4())
    assert take_dead_journals(tmp_path) == []
    journal.close()


def test_a_dead_journal_is_taken_by_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    instance_id = uuid4()
    index = journal.open_instance(instance_id)
    for number in (1, 2, 3):
        journal.begun(index, CAMPAIGN.bytes, [(number, 1)])
    journal.reports(1, batch(2))
    abandon(journal)
    (dead,) = take_dead_journals(tmp_path)
    assert take_dead_journals(tmp_path) == [], "the first one holds it"
    assert dead.state.boot_id == boot_id()
    (ended,) = ended_instances(dead.state)
    assert ended.instance_id == str(instance_id)
    (begun,) = ended.begun
    assert begun.campaign_id == str(CAMPAIGN)
    assert ([*begun.numbers], [*begun.attempts]) == ([1, 3], [1, 1])
    assert [*dead.state.batches] == [1]
    dead.remove()
    assert [*tmp_path.iterdir()] == []


def test_a_journal_left_by_its_adopter_can_be_taken_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open_instance(uuid4())
    abandon(journal)
    (dead,) = take_dead_journals(tmp_path)
    dead.close()
    (again,) = take_dead_journals(tmp_path)
    again.remove()


def test_each_begun_attempt_stays_with_the_instance_that_claimed_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first, second = journal.open_instance(uuid4()), journal.open_instance(uuid4())
    journal.begun(first, CAMPAIGN.bytes, [(1, 1)])
    journal.begun(second, CAMPAIGN.bytes, [(2, 1)])
    journal.instance_ended(first)
    abandon(journal)
    (dead,) = take_dead_journals(tmp_path)
    (ended,) = ended_instances(dead.state)
    assert [[*begun.numbers] for begun in ended.begun] == [[2]]
    dead.remove()


def test_rewriting_keeps_what_is_open_and_stays_small(tmp_path: Path) -> None:
    journal = Journal(tmp_path, bytes_max=20_000)
    instance_id = uuid4()
    index = journal.open_instance(instance_id)
    journal.begun(index, CAMPAIGN.bytes, [(1_000_000, 7)])
    sizes = []
    for number in range(1, 3_001):
        journal.begun(index, CAMPAIGN.bytes, [(number, 1)])
        journal.reports(number, batch(number))
        if number > 1:
            journal.acked(number - 1)
        sizes.append(journal.path.stat().st_size)
    assert max(sizes) < 30_000
    assert len([*tmp_path.iterdir()]) == 1
    assert take_dead_journals(tmp_path) == [], "the new file is locked too"
    state = read_journal(journal.path.read_bytes())
    assert state.begun == {(CAMPAIGN.bytes, 1_000_000, 7): index}
    assert [*state.batches] == [3_000]
    assert state.instances == {index: instance_id}
    abandon(journal)


def test_a_rewritten_journal_that_could_not_be_removed_says_nothing_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its adopter would hand back what had begun since."""
    journal = Journal(tmp_path, bytes_max=100)
    old = journal.path
    index = journal.open_instance(uuid4())
    journal.reports(1, batch(1))

    def refuse(path: Path, **options: bool) -> None:
        raise PermissionError(13, "not allowed", path.name)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(PermissionError):
            journal.acked(1)
    assert journal.path != old
    journal.begun(index, CAMPAIGN.bytes, [(5, 1)])
    (left,) = take_dead_journals(tmp_path)
    assert left.path == old
    assert left.state.instances == {}
    left.remove()
    assert read_journal(journal.path.read_bytes()).begun == {(CAMPAIGN.bytes, 5, 1): index}
    abandon(journal)


def test_an_ended_journal_is_removed_and_an_open_one_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    index = journal.open_instance(UUID(int=1))
    journal.reports(1, batch(1))
    journal.acked(1)
    journal.instance_ended(index)
    journal.close()
    assert [*tmp_path.iterdir()] == []
    left = Journal(tmp_path)
    left.open_instance(UUID(int=2))
    left.close()
    assert len([*tmp_path.iterdir()]) == 1


def test_a_disk_that_takes_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    index = journal.open_instance(UUID(int=1))
    size = journal.path.stat().st_size

    def half(file: int, data: bytes) -> int:
        return write(file, data[: len(data) // 2])

    write = os.write
    monkeypatch.setattr("outreach.sending.journal.os.write", half)
    with pytest.raises(OSError, match="a part of a record"):
        journal.begun(index, CAMPAIGN.bytes, [(1, 1)])
    monkeypatch.undo()
    assert journal.path.stat().st_size == size, "the torn record is cut off"
    journal.begun(index, CAMPAIGN.bytes, [(2, 1)])
    state = read_journal(journal.path.read_bytes())
    assert [*state.begun] == [(CAMPAIGN.bytes, 2, 1)]
    abandon(journal)


def test_what_a_crash_left_half_written_is_removed_once_it_is_old(tmp_path: Path) -> None:
    young, old = tmp_path / ".young.new", tmp_path / ".old.new"
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 120, time.time() - 120))
    assert take_dead_journals(tmp_path) == []
    assert young.exists()
    assert not old.exists()


def test_all_attempts_of_a_request_are_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    index = journal.open_instance(UUID(int=1))
    attempts = [(number, number % 3 + 1) for number in range(1, 1_001)]
    writes: list[int] = []

    def counted(file: int, data: bytes) -> int:
        writes.append(len(data))
        return write(file, data)

    write = os.write
    monkeypatch.setattr("outreach.sending.journal.os.write", counted)
    journal.begun(index, CAMPAIGN.bytes, attempts)
    journal.not_created(index, CAMPAIGN.bytes, attempts[:400])
    monkeypatch.undo()
    assert len(writes) == 2
    assert read_journal(journal.path.read_bytes()).begun == {
        (CAMPAIGN.bytes, number, attempt): index for number, attempt in attempts[400:]
    }
    abandon(journal)


def test_a_request_that_the_disk_took_in_part_has_not_begun_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    index = journal.open_instance(UUID(int=1))
    write = os.write
    monkeypatch.setattr(
        "outreach.sending.journal.os.write", lambda file, data: write(file, data[: len(data) - 1])
    )
    with pytest.raises(OSError, match="a part of a record"):
        journal.begun(index, CAMPAIGN.bytes, [(number, 1) for number in range(1, 1_001)])
    monkeypatch.undo()
    assert read_journal(journal.path.read_bytes()).begun == {}
    abandon(journal)


def test_a_rewritten_journal_holds_more_attempts_than_one_record_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outreach.sending.journal.SNAPSHOT_ATTEMPTS_MAX", 7)
    journal = Journal(tmp_path, bytes_max=100)
    index = journal.open_instance(UUID(int=1))
    journal.begun(index, CAMPAIGN.bytes, [(number, 1) for number in range(1, 31)])
    before = journal.path
    journal.reports(1, batch(30))
    journal.acked(1)
    assert journal.path != before
    begun = read_journal(journal.path.read_bytes()).begun
    assert {number for _, number, _ in begun} == set(range(1, 30))
    abandon(journal)


def test_reading_ends_at_a_record_that_is_not_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    index = journal.open_instance(uuid4())
    journal.begun(index, CAMPAIGN.bytes, [(1, 1)])
    sound = journal.path.stat().st_size
    journal.begun(index, CAMPAIGN.bytes, [(2, 1)])
    data = bytearray(journal.path.read_bytes())
    journal.close()
    data[-1] ^= 1  # the attempt's number would be another one
    assert read_journal(bytes(data)) == read_journal(bytes(data[:sound]))
    assert [number for _, number, _ in read_journal(bytes(data)).begun] == [1]


def test_what_an_ended_instance_had_begun_is_no_later_ones(tmp_path: Path) -> None:
    """Its index is given again, after many streams."""
    journal = Journal(tmp_path)
    index = journal.open_instance(uuid4())
    journal.begun(index, CAMPAIGN.bytes, [(1, 1)])
    journal.instance_ended(index)
    assert read_journal(journal.path.read_bytes()).begun == {}
    journal.close()

"""A journal that was cut or bitten anywhere is still a journal: a prefix of what was written."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.core.pool import journal
from dfm.core.pool.events import JournalEntry
from dfm.core.pool.journal import Header, JournalFile

HEADER = Header(project="p", epoch=7, runner="r")
ENTRIES = [JournalEntry(kind="submit", fields={"ticket": n, "spec": bytes(n % 7), "name": f"t{n}"}) for n in range(80)]


def whole() -> bytes:
    return journal.encode_header(HEADER) + journal.encode(ENTRIES)


def test_what_was_written_is_read() -> None:
    found = journal.replay(whole())
    assert (found.header, found.entries, found.good_bytes, found.fault) == (HEADER, ENTRIES, len(whole()), "")


def test_a_journal_cut_at_any_byte_is_a_prefix() -> None:
    content = whole()
    counts = []
    for cut in range(len(content)):
        found = journal.replay(content[:cut])
        assert found.entries == ENTRIES[: len(found.entries)]
        assert found.good_bytes <= cut
        assert bool(found.fault) == (found.good_bytes != cut)
        counts.append(len(found.entries))
    assert counts == sorted(counts)
    assert counts[-1] == len(ENTRIES) - 1


def test_a_flipped_bit_ends_the_journal_there() -> None:
    content = journal.encode_header(HEADER) + journal.encode(ENTRIES[:20])
    for position in range(len(content)):
        for bit in range(8):
            bitten = bytearray(content)
            bitten[position] ^= 1 << bit
            found = journal.replay(bytes(bitten))
            assert found.entries == ENTRIES[: len(found.entries)]
            assert found.good_bytes <= position
            assert found.fault


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(content: bytes) -> None:
    assert journal.replay(content).good_bytes <= len(content)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


def test_a_file_gives_back_what_was_appended(path: str) -> None:
    with JournalFile.open(path, HEADER)[0] as file:
        file.append(ENTRIES[:3])
        file.append(ENTRIES[3:5])
        file.sync()
    file, found = JournalFile.open(path, HEADER)
    file.close()
    assert found.entries == ENTRIES[:5]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_torn_tail_is_cut_off_and_kept_beside(path: str) -> None:
    with JournalFile.open(path, HEADER)[0] as file:
        file.append(ENTRIES[:5])
    with open(path, "ab") as torn:
        torn.write(b"\x09\x00\x00")
    with JournalFile.open(path, HEADER)[0] as file:
        file.append(ENTRIES[5:6])
    with open(f"{path}.bad", "rb") as bad:
        assert bad.read() == b"\x09\x00\x00"
    file, found = JournalFile.open(path, HEADER)
    file.close()
    assert found.entries == ENTRIES[:6]


def test_the_journal_of_another_project_is_set_aside(path: str) -> None:
    with JournalFile.open(path, HEADER)[0] as file:
        file.append(ENTRIES[:5])
    file, found = JournalFile.open(path, Header(project="other", epoch=1, runner="r"))
    file.close()
    assert found.entries == []
    assert os.path.getsize(f"{path}.bad") > 0
    file, found = JournalFile.open(path, Header(project="other", epoch=1, runner="r"))
    file.close()
    assert found.header == Header(project="other", epoch=1, runner="r")


def test_rotation_leaves_only_what_is_given(path: str) -> None:
    with JournalFile.open(path, HEADER)[0] as file:
        file.append(ENTRIES)
        file.rotate(Header(project="p", epoch=8, runner="r"), ENTRIES[:2])
        file.append(ENTRIES[2:3])
        assert file.size_bytes == os.path.getsize(path)
        assert not file.is_due_for_rotation
    file, found = JournalFile.open(path, HEADER)
    file.close()
    assert (found.header, found.entries) == (Header(project="p", epoch=8, runner="r"), ENTRIES[:3])


def test_a_write_that_failed_leaves_no_torn_record(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def half(descriptor: int, content: bytes, position: int) -> int:
        if len(content) > 10:
            return real(descriptor, bytes(content)[:10], position)
        raise OSError(28, "No space left on device")

    with JournalFile.open(path, HEADER)[0] as file:
        file.append(ENTRIES[:1])
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", half)
            with pytest.raises(OSError, match="No space"):
                file.append(ENTRIES[1:2])
        file.append(ENTRIES[2:3])
    file, found = JournalFile.open(path, HEADER)
    file.close()
    assert found.entries == [ENTRIES[0], ENTRIES[2]]


def test_a_snapshot_counts_whole_and_for_its_own_project(path: str) -> None:
    journal.write_snapshot(path, whole())
    found = journal.read_snapshot(path, "p")
    assert found is not None
    assert (found.header, found.entries) == (HEADER, ENTRIES)
    assert journal.read_snapshot(path, "q") is None
    assert os.stat(path).st_mode & 0o777 == 0o600
    journal.write_snapshot(path, whole()[:-1])
    assert journal.read_snapshot(path, "p") is None
    assert journal.read_snapshot(f"{path}.none", "p") is None
    assert os.listdir(os.path.dirname(path)) == ["journal"]


def test_a_snapshot_that_cannot_be_written_leaves_nothing_beside_it(path: str) -> None:
    os.mkdir(path)
    with pytest.raises(IsADirectoryError):
        journal.write_snapshot(path, whole())
    assert os.listdir(os.path.dirname(path)) == ["journal"]


def test_a_rotation_that_fails_leaves_nothing_beside_the_journal(path: str) -> None:
    with JournalFile.open(path, HEADER)[0] as file:
        os.unlink(path)
        os.mkdir(path)
        with pytest.raises(IsADirectoryError):
            file.rotate(HEADER, ENTRIES)
    assert os.listdir(os.path.dirname(path)) == ["journal"]


@pytest.mark.parametrize(("is_full", "synced"), [(True, 2), (False, 0)])
def test_a_full_journal_is_on_the_disk_before_it_counts(
    path: str,
    is_full: bool,
    synced: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    with JournalFile.open(path, HEADER, is_full=is_full)[0] as file:
        file.append(ENTRIES[:1])
        file.append(ENTRIES[1:2])
        assert len(sizes) == synced
        assert sizes == sorted(sizes)
        assert not sizes or sizes[-1] == file.size_bytes

"""The lock of a journal's directory."""

import os
import shutil
from pathlib import Path

import pytest

from dfm.core.pool.reap import owned, owner_of


@pytest.fixture
def directory(tmp_path: Path) -> str:
    path = tmp_path / "journal of somebody"
    path.mkdir(mode=0o700)
    return str(path)


def test_the_lock_tells_its_owner(directory: str) -> None:
    assert owner_of(directory) is None
    with owned(directory) as is_ours:
        assert is_ours
    assert owner_of(directory) == os.getpid()


def test_a_directory_that_is_gone_is_nobodys_and_is_not_made(directory: str) -> None:
    shutil.rmtree(directory)
    with owned(directory) as is_ours:
        assert not is_ours
    assert not os.path.exists(directory)

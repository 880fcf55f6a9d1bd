"""The places of a daemon: what is said where one of them cannot be had."""

from pathlib import Path

import pytest

from dfm.api.errors import InfrastructureError
from dfm.core.daemon.endpoint import Endpoint, LockPlace
from dfm.core.daemon.start import start_in_background


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    endpoint = Endpoint(str(tmp_path))
    endpoint.make_directory()
    return endpoint


def test_a_log_that_cannot_be_written_is_told_of(endpoint: Endpoint) -> None:
    Path(endpoint.log_path).mkdir()
    with pytest.raises(InfrastructureError) as caught:
        start_in_background(endpoint, [])
    assert str(caught.value) == f"cannot write the daemon's log {endpoint.log_path}: Is a directory"


def test_a_lock_that_cannot_be_written_is_told_of(endpoint: Endpoint) -> None:
    Path(endpoint.lock_path).mkdir()
    with pytest.raises(InfrastructureError) as caught, endpoint.locked():
        pass
    assert str(caught.value) == f"cannot write {endpoint.lock_path}: Is a directory"


def test_a_journal_that_has_no_place_is_told_of(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    root = str(tmp_path / "file" / "below" / "state")
    monkeypatch.setenv("DFM_STATE_DIR", root)
    with pytest.raises(InfrastructureError) as caught:
        endpoint.state_directory()
    assert str(caught.value) == f"cannot make the directory {root} for the journal: Not a directory"
    assert caught.value.hint == "DFM_STATE_DIR names another one, on this host's own disk"


def test_a_lock_is_kept_where_its_project_is_moved_and_removed_where_it_is(endpoint: Endpoint, tmp_path: Path) -> None:
    with endpoint.locked() as lock:
        assert lock is not None
        assert lock.place() is LockPlace.KEPT
        moved = tmp_path / "moved"
        Path(endpoint.directory).rename(moved)
        assert lock.place() is LockPlace.KEPT
        (moved / "daemon.lock").unlink()
        assert lock.place() is LockPlace.REMOVED
        moved.rmdir()
        assert lock.place() is LockPlace.REMOVED
        endpoint.make_directory()
        with endpoint.locked() as successor:
            assert successor is not None
            assert lock.place() is LockPlace.REPLACED
            assert successor.place() is LockPlace.KEPT

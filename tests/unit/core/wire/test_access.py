"""The access file: ours alone, whole, or not believed."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfm.core.wire.access import (
    ACCESS_FILE,
    Access,
    AccessError,
    access_directory,
    new_key,
    plant_probe,
    private_directory,
    read_access,
    remove_probe,
    runtime_directory,
    socket_path,
    write_access,
)


@pytest.fixture
def access() -> Access:
    return Access(project="p", epoch=3, daemon_id=b"d" * 16, addresses=("a", "b"), port=4711, key=new_key())


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return access_directory(str(tmp_path / "project"), str(tmp_path / "base"))


def test_access_arrives_and_only_its_owner_can_read_it(directory: str, access: Access) -> None:
    path = write_access(directory, access)
    assert read_access(path) == access
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert os.listdir(directory) == [ACCESS_FILE]


def test_new_access_replaces_the_old(directory: str, access: Access) -> None:
    write_access(directory, access)
    newer = Access(project="p", epoch=4, daemon_id=b"e" * 16, addresses=("c",), port=1, key=new_key())
    assert read_access(write_access(directory, newer)) == newer


def test_umask_opens_nothing(tmp_path: Path, access: Access) -> None:
    before = os.umask(0)
    try:
        made = access_directory("/project", str(tmp_path / "base"))
        path = write_access(made, access)
    finally:
        os.umask(before)
    assert (os.stat(made).st_mode & 0o777, os.stat(path).st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_file_that_others_may_use_is_refused(directory: str, access: Access, mode: int) -> None:
    path = write_access(directory, access)
    os.chmod(path, mode)
    with pytest.raises(AccessError, match="others may use it"):
        read_access(path)


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_directory_that_others_may_use_is_refused(directory: str, access: Access, mode: int) -> None:
    path = write_access(directory, access)
    os.chmod(directory, mode)
    with pytest.raises(AccessError, match="others may use it"):
        read_access(path)
    with pytest.raises(AccessError, match="others may use it"):
        write_access(directory, access)
    with pytest.raises(AccessError, match="others may use it"):
        private_directory(directory)


def test_link_fifo_and_directory_are_no_access_file(directory: str, access: Access) -> None:
    path = write_access(directory, access)
    os.rename(path, f"{path}.real")
    os.symlink(f"{path}.real", path)
    with pytest.raises(AccessError):
        read_access(path)
    os.unlink(path)
    os.mkfifo(path, 0o600)
    with pytest.raises(AccessError, match="no regular file"):
        read_access(path)
    os.unlink(path)
    os.mkdir(path, 0o700)
    with pytest.raises(AccessError, match="no regular file"):
        read_access(path)


def test_linked_directory_is_refused(tmp_path: Path, directory: str, access: Access) -> None:
    write_access(directory, access)
    link = tmp_path / "link"
    link.symlink_to(directory)
    with pytest.raises(AccessError):
        read_access(str(link / ACCESS_FILE))
    with pytest.raises(AccessError):
        private_directory(str(link))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"v":1}', b"x" * 70_000])
def test_other_content_is_refused(directory: str, access: Access, content: bytes) -> None:
    path = write_access(directory, access)
    Path(path).write_bytes(content)
    with pytest.raises(AccessError):
        read_access(path)


def test_short_key_is_refused(directory: str) -> None:
    weak = Access(project="p", epoch=1, daemon_id=b"d", addresses=("a",), port=1, key=b"short")
    with pytest.raises(AccessError, match="no access file that this version knows"):
        read_access(write_access(directory, weak))


def test_absent_file_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(AccessError, match="No such file"):
        read_access(str(tmp_path / "none"))


def test_message_and_repr_tell_no_key(directory: str, access: Access) -> None:
    path = write_access(directory, access)
    Path(path).write_text(Path(path).read_text(encoding="utf-8").replace('"v":1', '"v":"1"'), encoding="utf-8")
    with pytest.raises(AccessError) as caught:
        read_access(path)
    assert access.key.hex() not in str(caught.value)
    assert repr(access.key) not in repr(access)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_refused(directory: str, access: Access) -> None:
    path = write_access(directory, access)
    os.chown(path, 65534, -1)
    with pytest.raises(AccessError, match="belongs to user 65534"):
        read_access(path)


def test_projects_have_directories_of_their_own(tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    assert access_directory("/a", base) == access_directory("/a", base) != access_directory("/b", base)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Return a private directory whose path is short, wherever temporary directories lie."""
    with tempfile.TemporaryDirectory(prefix="dfm-", dir="/tmp") as directory:
        yield Path(directory)


def test_socket_of_a_long_project_path_lies_in_the_runtime_directory(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DFM_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert socket_path("/p") == "/p/.dfm/daemon.sock"
    long = socket_path("/" + "p" * 200)
    assert os.path.dirname(long) == str(runtime / "dfm") == runtime_directory()
    assert os.stat(runtime / "dfm").st_mode & 0o777 == 0o700
    assert socket_path("/" + "q" * 200) != long


def test_runtime_directory_that_is_itself_too_long_for_a_socket_is_passed_over(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = runtime / ("d" * 80)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("DFM_RUNTIME_DIR", str(deep))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert os.path.dirname(socket_path("/" + "p" * 200)) == str(runtime / "dfm")


def test_probe_holds_what_it_says_until_it_is_removed(tmp_path: Path) -> None:
    root = plant_probe(str(tmp_path))
    assert (tmp_path / root.probe).read_text(encoding="utf-8") == root.content
    remove_probe(root)
    remove_probe(root)
    assert os.listdir(tmp_path) == []

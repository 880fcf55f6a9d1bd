"""The trace of a run: it says where tasks went, or nothing, whatever lies in its place."""

from pathlib import Path

import pytest

from dfm.api.errors import InfrastructureError
from dfm.core.pool.trace import NAME, Trace, has_trace, leave_trace, read_trace, remove_trace

TRACE = Trace(run_id="0f" * 16, host="h", project="/p", has_own_pool=True)


def test_what_was_left_is_read_until_it_is_removed(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert not has_trace(directory)
    leave_trace(directory, TRACE)
    leave_trace(directory, TRACE)
    assert has_trace(directory)
    assert read_trace(directory) == TRACE
    remove_trace(directory)
    remove_trace(directory)
    assert (has_trace(directory), read_trace(directory)) == (False, None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"run_id": "../../x", "host": "h", "project": "/p", "has_own_pool": true}',
        b'{"run_id": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", "host": "h", "project": "p", "has_own_pool": true}',
    ],
)
def test_what_says_nothing_is_a_trace_all_the_same(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert has_trace(str(tmp_path))
    assert read_trace(str(tmp_path)) is None


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    (tmp_path / NAME).symlink_to("mine")
    assert read_trace(str(tmp_path)) is None
    leave_trace(str(tmp_path), TRACE)
    assert read_trace(str(tmp_path)) == TRACE
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "mine"


def test_where_it_cannot_be_written_nothing_is_run(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="cannot write"):
        leave_trace(str(tmp_path / "none"), TRACE)

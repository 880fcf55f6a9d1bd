"""What the pool reads beside the batch system's answers."""

from pathlib import Path

import pytest

from dfm.core.pool.batch import last_line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ""),
        (b"one\ntwo\n\n  \n", "two"),
        (b"x" * 5000 + b"\n  the end \n", "the end"),
        (b"\xff broken\n", "\N{REPLACEMENT CHARACTER} broken"),
        (b"y" * 5000, "y" * 300),
    ],
)
def test_the_last_words_of_a_log(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "log").write_bytes(content)
    assert last_line(str(tmp_path / "log")) == expected


def test_a_log_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert last_line(str(tmp_path / "log")) == ""

"""Amounts as people write them: what is understood, what is refused, and that they survive a round trip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.api.units import MAX_MEMORY_BYTES, format_duration, format_memory, parse_duration, parse_memory

GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("8G", 8 * GIB),
        ("4GiB", 4 * GIB),
        ("4gb", 4 * GIB),
        ("512M", GIB // 2),
        ("1.5G", 3 * GIB // 2),
        ("2T", 2048 * GIB),
        (" 1K ", 1024),
    ],
)
def test_memory_is_read_with_its_unit(text: str, amount: int) -> None:
    assert parse_memory(text) == amount


@pytest.mark.parametrize("text", ["", "8", "8 apples", "-1G", "0G", "G", "8GG", "1e3M", "9999999P", "8G;rm"])
def test_memory_of_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1:30", 5400),
        ("1:00", 3600),
        ("0:05:30", 330),
        ("2-12:00", 216000),
        ("90m", 5400),
        ("1h30m", 5400),
        ("45s", 45),
        ("0.5s", 0.5),
        ("1d", 86400),
        ("250ms", 0.25),
    ],
)
def test_durations_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "90", "1:60", "1:2:3:4", "soon", "-5m", "5 parsecs", "99999999d", "1:", ":30", "5m;ls"]
)
def test_durations_of_any_other_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|ten years"):
        parse_duration(text)


@given(st.integers(1, MAX_MEMORY_BYTES // 1024).map(lambda kib: kib * 1024))
def test_memory_survives_being_written(amount: int) -> None:
    assert parse_memory(format_memory(amount)) == amount


@given(st.integers(0, 10**8))
def test_durations_survive_being_written(seconds: int) -> None:
    assert parse_duration(format_duration(float(seconds))) == seconds

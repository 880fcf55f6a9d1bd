"""Values by name in a file: what was saved is there, what was not is as it was, and what is damaged is not there."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfm.core.record import keyed_file
from dfm.core.record.keyed_file import KeyedFile


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "values")


@pytest.fixture
def saved(path: str) -> str:
    """A file with two values."""
    file = KeyedFile(path, "kind")
    file.put("a", b"one")
    file.put("b", b"two")
    file.save()
    return path


def contents(path: str, kind: str = "kind") -> dict[str, bytes | None]:
    file = KeyedFile(path, kind)
    return {name: value for name in ("a", "b", "c") if (value := file.get(name)) is not None}


def test_what_was_saved_is_there(saved: str) -> None:
    assert contents(saved) == {"a": b"one", "b": b"two"}


def test_what_was_not_saved_leaves_what_was(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_file, "_BUFFER_BYTES", 1)
    file = KeyedFile(saved, "kind")
    file.put("a", b"other")
    file.put("c", b"three")
    file.drop("b")
    assert (file.get("a"), file.get("b"), file.get("c")) == (b"other", None, b"three")
    assert contents(saved) == {"a": b"one", "b": b"two"}


def test_what_somebody_left_unsaved_is_written_over(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_file, "_BUFFER_BYTES", 1)
    KeyedFile(saved, "kind").put("c", b"x" * 10_000)
    file = KeyedFile(saved, "kind")
    file.put("c", b"three")
    file.save()
    assert contents(saved) == {"a": b"one", "b": b"two", "c": b"three"}
    assert Path(saved).stat().st_size < 1_000


def test_what_somebody_left_unsaved_is_never_taken_for_what_is_put_in_its_place(
    saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed_file, "_BUFFER_BYTES", 1)
    KeyedFile(saved, "kind").put("a", b"left")
    file = KeyedFile(saved, "kind")
    assert file.get("b") == b"two"
    file.put("a", b"mine")
    assert file.get("a") == b"mine"


def test_a_value_is_there_before_it_is_written(path: str) -> None:
    file = KeyedFile(path, "kind")
    file.put("a", b"one")
    assert file.get("a") == b"one"
    assert not Path(path).exists()


def test_values_of_another_kind_do_not_count_and_are_replaced(saved: str) -> None:
    assert contents(saved, "other") == {}
    file = KeyedFile(saved, "other")
    file.put("c", b"three")
    file.save()
    assert contents(saved, "other") == {"c": b"three"}
    assert contents(saved) == {}


def test_a_damaged_value_is_not_there_and_the_others_are(saved: str) -> None:
    content = Path(saved).read_bytes()
    Path(saved).write_bytes(content.replace(b"one", b"0ne"))
    assert contents(saved) == {"b": b"two"}


@pytest.mark.parametrize("at", [0, 40, 70, -1])
def test_a_damaged_head_or_table_holds_nothing_it_should_not(saved: str, at: int) -> None:
    content = bytearray(Path(saved).read_bytes())
    content[at] ^= 0xFF
    Path(saved).write_bytes(content)
    assert contents(saved).items() <= {"a": b"one", "b": b"two"}.items()
    assert len(contents(saved)) < 2


@pytest.mark.parametrize("length", [0, 20, 64, 80])
def test_a_piece_of_a_file_holds_nothing(saved: str, length: int) -> None:
    Path(saved).write_bytes(Path(saved).read_bytes()[:length])
    assert contents(saved) == {}


def test_read_only_is_not_written(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_file, "_BUFFER_BYTES", 1)
    before = Path(saved).read_bytes()
    file = KeyedFile(saved, "kind", is_read_only=True)
    file.put("a", b"other")
    file.save()
    assert Path(saved).read_bytes() == before
    assert (file.get("a"), file.get("b")) == (None, b"two")


def test_a_file_that_cannot_be_written_forgets_what_is_put(tmp_path: Path) -> None:
    file = KeyedFile(str(tmp_path / "none" / "values"), "kind")
    file.put("a", b"one")
    file.save()
    assert file.get("a") is None


def test_a_file_that_is_mostly_waste_is_written_anew(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_file, "WASTE_BYTES", 100)
    for number in range(50):
        file = KeyedFile(saved, "kind")
        file.put("c", b"%d" % number * 20)
        file.save()
        assert contents(saved) == {"a": b"one", "b": b"two", "c": b"%d" % number * 20}
    assert Path(saved).stat().st_size < 500
    assert [path.name for path in Path(saved).parent.iterdir()] == ["values"]


NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, st.binary(max_size=40)),
        st.tuples(st.just("drop"), NAMES, st.just(b"")),
        st.tuples(st.sampled_from(["save", "open"]), st.just(""), st.just(b"")),
    ),
    max_size=40,
)


@given(steps=STEPS, buffer=st.integers(1, 100), waste=st.integers(0, 300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_a_mapping_that_goes_back_to_what_was_saved(
    tmp_path: Path, steps: list[tuple[str, str, bytes]], buffer: int, waste: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyed_file, "_BUFFER_BYTES", buffer)
        patch.setattr(keyed_file, "WASTE_BYTES", waste)
        path = str(tmp_path / "values")
        Path(path).unlink(missing_ok=True)
        file, now, kept = KeyedFile(path, "kind"), dict[str, bytes](), dict[str, bytes]()
        for what, name, value in steps:
            match what:
                case "put":
                    file.put(name, value)
                    now[name] = value
                case "drop":
                    file.drop(name)
                    now.pop(name, None)
                case "save":
                    file.save()
                    kept = dict(now)
                case _:
                    file, now = KeyedFile(path, "kind"), dict(kept)
            assert {name: found for name in "abc" if (found := file.get(name)) is not None} == now

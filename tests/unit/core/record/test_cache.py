"""An action cache: what is kept, under which key, and what is not believed."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest
from msgspec import structs

from dfm.api.errors import UsageError
from dfm.api.runner import Outcome, TaskResult
from dfm.core.record.cache import ActionCache, CachePlace, NotCacheableError, cache_from, cache_key, init_cache
from dfm.core.record.fingerprint import TaskFacts, take
from dfm.core.record.stamps import Stamper


@pytest.fixture
def place(tmp_path: Path) -> CachePlace:
    init_cache(str(tmp_path / "cache"), is_shared=False)
    return CachePlace(str(tmp_path / "cache"), is_writable=True, is_shared=False)


@pytest.fixture
def done(tmp_path: Path) -> tuple[str, TaskResult]:
    """A run directory in which a task has left a file, a program, and a link."""
    rundir = tmp_path / "one" / "p.a"
    (rundir / "sub").mkdir(parents=True)
    (rundir / "out.txt").write_text("made\n", encoding="utf-8")
    (rundir / "sub" / "tool").write_text("#!/bin/sh\n", encoding="utf-8")
    (rundir / "sub" / "tool").chmod(0o755)
    (rundir / "latest").symlink_to("sub/tool")
    (rundir / "p.a.log").write_text("log", encoding="utf-8")
    output = {"type": "std.FileSet", "basedir": str(rundir), "files": ["out.txt"]}
    return str(rundir), TaskResult(outcome=Outcome.SUCCEEDED, outputs=[output], memento={"at": f"{rundir}/out.txt"})


def restored(place: CachePlace, tmp_path: Path, told: list[str]) -> tuple[Path, TaskResult | None]:
    rundir = tmp_path / "two" / "p.a"
    rundir.mkdir(parents=True, exist_ok=True)
    return rundir, ActionCache([place]).restore("k" * 64, str(rundir), told.append)


@pytest.mark.parametrize("packing", ["no", "gzip", "bzip2"])
def test_a_result_comes_back_in_another_run_directory(
    place: CachePlace, done: tuple[str, TaskResult], tmp_path: Path, packing: str
) -> None:
    ActionCache([place]).store("k" * 64, done[0], "p.a", done[1], packing)
    told: list[str] = []
    rundir, result = restored(place, tmp_path, told)
    assert result is not None
    assert result.outputs == [{"type": "std.FileSet", "basedir": str(rundir), "files": ["out.txt"]}]
    assert result.memento == {"at": f"{rundir}/out.txt"}
    assert (rundir / "out.txt").read_text(encoding="utf-8") == "made\n"
    assert os.access(rundir / "sub" / "tool", os.X_OK)
    assert os.readlink(rundir / "latest") == "sub/tool"
    assert sorted(path.name for path in rundir.iterdir()) == ["latest", "out.txt", "sub"]
    assert told == []


def test_a_damaged_blob_is_told_and_replaced_by_the_next_result(
    place: CachePlace, done: tuple[str, TaskResult], tmp_path: Path
) -> None:
    cache = ActionCache([place])
    cache.store("k" * 64, done[0], "p.a", done[1], "no")
    for blob in Path(place.path, "blobs").glob("*/*"):
        blob.write_text("something else", encoding="utf-8")
    told: list[str] = []
    rundir, result = restored(place, tmp_path, told)
    assert (result, list(rundir.iterdir())) == (None, [])
    assert len(told) == 1
    assert "has another content than was stored" in told[0]
    cache.store("k" * 64, done[0], "p.a", done[1], "no")
    assert restored(place, tmp_path, told)[1] is not None


@pytest.mark.parametrize("content", ["", "{}", '{"checksum": "0", "entry": {}}', "\x00"])
def test_an_entry_that_is_none_is_told_and_not_used(place: CachePlace, tmp_path: Path, content: str) -> None:
    path = Path(place.path, "entries", "kk", f"{'k' * 64}.json")
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    told: list[str] = []
    assert restored(place, tmp_path, told)[1] is None
    assert len(told) == 1
    assert not path.exists()


def test_an_entry_cannot_write_outside_the_run_directory(
    place: CachePlace, done: tuple[str, TaskResult], tmp_path: Path
) -> None:
    ActionCache([place]).store("k" * 64, done[0], "p.a", done[1], "no")
    path = Path(place.path, "entries", "kk", f"{'k' * 64}.json")
    entry = json.dumps(json.loads(path.read_text(encoding="utf-8"))["entry"]).replace("out.txt", "../../evil")
    path.write_text(
        f'{{"checksum": "{hashlib.sha256(entry.encode()).hexdigest()}", "entry": {entry}}}', encoding="utf-8"
    )
    told: list[str] = []
    assert restored(place, tmp_path, told)[1] is None
    assert "leaves the run directory" in told[0]
    assert not (tmp_path / "evil").exists()


def test_files_outside_the_run_directory_are_not_kept(place: CachePlace, done: tuple[str, TaskResult]) -> None:
    result = dataclasses.replace(done[1], outputs=[{"type": "std.FileSet", "basedir": "/usr", "files": ["x"]}])
    with pytest.raises(NotCacheableError, match="outside its run directory"):
        ActionCache([place]).store("k" * 64, done[0], "p.a", result, "no")
    Path(done[0], "away").symlink_to("/etc/passwd")
    with pytest.raises(NotCacheableError, match="leads out of the run directory"):
        ActionCache([place]).store("k" * 64, done[0], "p.a", done[1], "no")


def key_of(root: Path, added: object = None, **changes: object) -> str:
    facts = TaskFacts(
        task="p.a",
        body={"kind": "shell", "text": f"cat {root}/in.txt"},
        params={"n": 1},
        inputs=[{"type": "std.FileSet", "basedir": str(root), "files": ["in.txt"], "src": "p.s", "seq": 0}],
    )
    facts = structs.replace(facts, **changes)
    stamper = Stamper()
    return cache_key(facts, take(facts, stamper, None), [str(root)], added, stamper)


def test_the_key_is_that_of_another_check_out_and_changes_with_all_that_decides(tmp_path: Path) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        root.mkdir()
        (root / "in.txt").write_text("same", encoding="utf-8")
    key = key_of(roots[0])
    assert key_of(roots[1]) == key
    others = [
        key_of(roots[0], params={"n": 2}),
        key_of(roots[0], body={"kind": "shell", "text": "true"}),
        key_of(roots[0], environment={"A": "1"}),
        key_of(roots[0], tools={"sh": "/bin/sh"}),
        key_of(roots[0], added=["x"]),
    ]
    (roots[0] / "in.txt").write_text("other", encoding="utf-8")
    others.append(key_of(roots[0]))
    assert len({key, *others}) == 7


def test_a_list_of_caches_names_those_that_are_written_and_those_that_are_read(tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        init_cache(str(tmp_path / name), is_shared=name == "theirs")
    (tmp_path / "caches.yaml").write_text(
        "caches:\n- {type: directory, path: theirs, writable: false}\n- {path: mine}\n", encoding="utf-8"
    )
    cache = cache_from({"DV_FLOW_CACHE": str(tmp_path / "caches.yaml")})
    assert cache is not None
    assert [(os.path.basename(place.path), place.is_writable, place.is_shared) for place in cache.places] == [
        ("theirs", False, True),
        ("mine", True, False),
    ]
    assert (tmp_path / "theirs").stat().st_mode & 0o7777 == 0o2775


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "cannot be read"),
        ("a: 1", "has no list `caches`"),
        ("caches: [{type: s3, path: x}]", "has the unknown type 's3'"),
        ("caches: [{path: x, wirtable: true}]", "has the unknown key 'wirtable'"),
        ("caches: [{path: nowhere}]", "there is no directory"),
        ("caches: [1]", "has no `path`"),
    ],
)
def test_a_list_of_caches_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "caches.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        cache_from({"DV_FLOW_CACHE": str(tmp_path / "caches.yaml")})


def test_a_directory_with_other_things_in_it_is_made_no_cache(tmp_path: Path) -> None:
    (tmp_path / "thing").touch()
    with pytest.raises(UsageError, match="is not empty"):
        init_cache(str(tmp_path), is_shared=False)

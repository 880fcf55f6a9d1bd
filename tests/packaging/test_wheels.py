"""The three wheels: what is in them, and what a site that installs some of them gets."""

import email
import json
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DISTRIBUTIONS = {"dfm-core": "dfm/core", "dfm-runner-lsf": "dfm/runner/lsf", "dfm-runner-slurm": "dfm/runner/slurm"}


def build(name: str, target: Path, kind: str) -> Path:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            f"--{kind}",
            "--outdir",
            str(target),
            str(ROOT / "packages" / name),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return next(target.iterdir())


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(name, tmp_path_factory.mktemp(name), "wheel") for name in DISTRIBUTIONS}


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_owns_its_folder_and_no_namespace(wheels: dict[str, Path], name: str) -> None:
    found = names(wheels[name])
    assert not {"dfm/__init__.py", "dfm/runner/__init__.py"} & found
    assert {f"{DISTRIBUTIONS[name]}/__init__.py", f"{DISTRIBUTIONS[name]}/py.typed"} <= found
    owned = {"dfm/api/", "dfm/core/", "dfm/testing/"} if name == "dfm-core" else {f"{DISTRIBUTIONS[name]}/"}
    code = {entry for entry in found if ".dist-info/" not in entry}
    assert all(any(entry.startswith(folder) for folder in owned) for entry in code)


def test_the_core_wheel_holds_its_data(wheels: dict[str, Path]) -> None:
    assert {"dfm/core/std/flow.yaml", "dfm/core/cli/complete.bash", "dfm/api/py.typed"} <= names(wheels["dfm-core"])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_metadata_is_what_an_index_wants(wheels: dict[str, Path], name: str) -> None:
    with zipfile.ZipFile(wheels[name]) as archive:
        entry = next(entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(entry))
        licences = [entry for entry in archive.namelist() if entry.endswith("licenses/LICENSE")]
    assert (metadata["Name"], metadata["License-Expression"]) == (name, "Apache-2.0")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert len(str(metadata.get_payload())) > 200
    assert licences


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_an_sdist_builds_the_same_wheel(tmp_path: Path, wheels: dict[str, Path], name: str) -> None:
    sdist = build(name, tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "tree", filter="data")
    tree = next((tmp_path / "tree").iterdir())
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path / "again"), str(tree)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert names(next((tmp_path / "again").iterdir())) == names(wheels[name])


COMBINATIONS = [["dfm-core"], ["dfm-core", "dfm-runner-lsf"], ["dfm-core", "dfm-runner-slurm"], list(DISTRIBUTIONS)]


@pytest.mark.parametrize("chosen", COMBINATIONS, ids="+".join)
def test_a_site_gets_the_runners_that_it_installed(wheels: dict[str, Path], tmp_path: Path, chosen: list[str]) -> None:
    venv.create(tmp_path / "site", with_pip=False, symlinks=True)
    python = tmp_path / "site" / "bin" / "python"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *(str(wheels[name]) for name in chosen),
        ],
        check=True,
        capture_output=True,
        timeout=240,
    )
    dfm = tmp_path / "site" / "bin" / "dfm"
    listed = json.loads(subprocess.run([dfm, "runners", "--json"], check=True, capture_output=True, timeout=60).stdout)
    wanted = ["local", *sorted(name.removeprefix("dfm-runner-") for name in chosen if name != "dfm-core")]
    assert [(runner["name"], runner["state"]) for runner in listed["runners"]] == [(name, "ready") for name in wanted]
    version = subprocess.run([dfm, "--version"], check=True, capture_output=True, text=True, timeout=60).stdout
    assert version == "dfm 0.1.0\n"
    (tmp_path / "flow.yaml").write_text("package: {name: p, tasks: [{name: a, run: 'true'}]}", encoding="utf-8")
    run = subprocess.run([dfm, "run", "a"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    if "dfm-runner-lsf" not in chosen:
        refused = subprocess.run(
            [dfm, "run", "a", "--runner", "lsf"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert (refused.returncode, "pip install dfm-runner-lsf" in refused.stderr) == (2, True)

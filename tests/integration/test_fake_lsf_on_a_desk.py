"""`python -m dfm.testing.fake_lsf`: a cluster that a person starts, uses from another shell, and ends."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(60)
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cluster"


@pytest.fixture
def fake_lsf(directory: Path) -> Iterator[Call]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LSB_", "LSF_", "FAKE_LSF"))}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "dfm.testing.fake_lsf", "--dir", str(directory), *words]
        return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)

    yield call
    call("down")


def shell(lines: str, script: str) -> subprocess.CompletedProcess[str]:
    """Do what a person does: paste the lines, then type the script."""
    return subprocess.run(["sh", "-c", f"{lines}\n{script}"], capture_output=True, text=True, timeout=60, check=False)


def test_it_needs_nothing_of_the_extra_for_tests() -> None:
    script = "import sys, dfm.testing.fake_lsf.__main__, dfm.testing.fake_lsf.mbatchd; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert not {"pytest", "pytest_asyncio"} & set(answer.stdout.split())


def test_up_prints_the_lines_to_copy_and_another_shell_can_submit(fake_lsf: Call, directory: Path) -> None:
    up = fake_lsf("up", "--speed", "100")
    assert up.stdout == f"export FAKE_LSF_DIR={directory}\nexport PATH={directory}/bin:$PATH\n"
    answer = shell(up.stdout, "bsub -K echo told; fakelsf status")
    assert "Job <101> is submitted to default queue <normal>.\n" in answer.stdout
    assert "jobs       1 DONE\n" in answer.stdout
    assert directory.stat().st_mode & 0o777 == 0o700


def test_down_leaves_nothing(fake_lsf: Call, directory: Path) -> None:
    up = fake_lsf("up", "--speed", "100")
    answer = shell(up.stdout, "bsub -I '(setsid sleep 1000 & echo $!) 2>&1'")
    pid = int(answer.stdout.splitlines()[1])
    assert fake_lsf("down").returncode == 0
    assert not directory.exists()
    assert not is_alive(pid)
    assert str(directory) not in "".join(environs())


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}


def environs() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "environ").read_text(errors="replace") + (entry / "cmdline").read_text(errors="replace")
            except OSError:
                continue


def test_ctl_and_status_answer_from_any_shell(fake_lsf: Call) -> None:
    fake_lsf("up", "--queue", "only:run_limit_minutes=5:users=a b", "--host", "big:slots=32", "--licence", "sim=2",
             "--param", "clean_period=7", "--dialect", "volclava")  # fmt: skip
    assert fake_lsf("ctl", "close-queue", "only").returncode == 0
    status = fake_lsf("status").stdout
    assert "dialect    volclava\n" in status
    assert "hosts      big\nqueues     only\n" in status
    refused = fake_lsf("ctl", "close-queue", "nosuch")
    assert (refused.stderr, refused.returncode) == ("fake_lsf: no queue 'nosuch'\n", 2)
    assert "Usage: fakelsf VERB" in fake_lsf("ctl", "explode").stderr


def test_without_a_cluster_the_answer_says_what_to_do(fake_lsf: Call, directory: Path) -> None:
    for verb in ("status", "down"):
        answer = fake_lsf(verb)
        assert (answer.stdout, answer.returncode) == ("", 1)
        assert str(directory) in answer.stderr


def test_a_second_up_is_refused_and_the_first_goes_on(fake_lsf: Call, directory: Path) -> None:
    fake_lsf("up")
    second = fake_lsf("up")
    assert (second.stdout, second.stderr, second.returncode) == ("", f"fake_lsf: {directory} is not empty\n", 2)
    assert fake_lsf("status").returncode == 0


def test_down_does_not_touch_a_directory_that_holds_no_cluster(fake_lsf: Call, directory: Path) -> None:
    directory.mkdir()
    (directory / "mine").write_text("", encoding="utf-8")
    assert fake_lsf("down").returncode == 1
    assert (directory / "mine").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--speed", "0"], "speed must be more than 0, not 0.0"),
        (["--host", "a:slot=4"], "no 'slot' of a host; there are name, slots"),
        (["--host", "a:slots=many"], "'many' is not a whole number"),
        (["--host", "a", "--host", "a"], "no two of one name: a, a"),
        (["--param", "mbd_sleep_time=soon"], "'soon' is not a number"),
        (["--param", "default_queue=nosuch"], "default_queue 'nosuch' is none of the queues"),
        (["--config", "/nonexistent"], "/nonexistent: "),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_and_leaves_nothing(
    fake_lsf: Call, directory: Path, words: list[str], complaint: str
) -> None:
    answer = fake_lsf("up", *words)
    assert (answer.stdout, answer.returncode) == ("", 2)
    assert complaint in answer.stderr
    assert not directory.exists()


def test_a_configuration_is_read_from_json(fake_lsf: Call, tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    path.write_text('{"speed": 50, "hosts": [{"name": "h", "slots": 2}]}', encoding="utf-8")
    fake_lsf("up", "--config", str(path))
    assert "speed      50\nhosts      h\n" in fake_lsf("status").stdout
    path.write_text('{"hosts": [{"name": "h", "slots": "2"}]}', encoding="utf-8")
    fake_lsf("down")
    assert fake_lsf("up", "--config", str(path)).stderr == "fake_lsf: slots of a host cannot be '2'\n"

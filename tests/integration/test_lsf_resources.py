# ruff: noqa: N802  (tests bear the ids of the requirements)
"""What a task asks of its machine, from the flow file to the words that bsub was given."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dfm.testing.fake_lsf import FakeLsf, Host, Params, Queue
from dfm.testing.project import QUICK_POOL, Project, wait_until

CLASSES = {"sim": {"resource_select": ["rhel8", "tmp>100 || swp>100"]}}


@pytest.fixture
def lsf(tmp_path: Path) -> Iterator[FakeLsf]:
    """A cluster with a queue for large jobs, whose limits are in MB."""
    host = Host(name="hostA", slots=8, memory_mb=64_000, resources=("rhel8", "bigmem"))
    params = Params(mbd_sleep_time=2, sbd_sleep_time=2, lsf_unit_for_limits="MB")
    with FakeLsf(
        tmp_path, speed=20, hosts=(host,), queues=(Queue(name="normal"), Queue(name="large")), params=params
    ) as cluster:
        yield cluster
        wait_until(lambda: not any(job.is_live for job in cluster.jobs()), "the jobs to be gone")


@pytest.fixture
def project(tmp_path: Path, lsf: FakeLsf) -> Project:
    directory = tmp_path / "project"
    directory.mkdir()
    found = Project(directory)
    found.environ["PATH"] = lsf.environ["PATH"]
    return found


def write(project: Project, asked: Mapping[str, object], **runner: object) -> None:
    project.write_settings({"default": "lsf", "pool": dict(QUICK_POOL), "resource_classes": CLASSES, **runner})
    project.write_flow({"a": {"run": "true", "tags": [{"std.ResourceTag": asked}]}})


def flags(words: list[str]) -> list[str]:
    """What stands between the name of the job and the worker's command."""
    assert words[0] == "-J"
    return words[2 : next(number for number, word in enumerate(words) if word.startswith("/") and "python" in word)]


EVERYTHING = {"cores": 2, "memory": "512M", "walltime": "0:30", "queue": "large", "resource_class": "sim"}
OPTIONS = {"queue": "normal", "project": "chip b0", "set_M": True, "resource_select": ["bigmem"]}


def expected(project: Project) -> list[str]:
    return [
        *("-n", "2", "-rn", "-cwd", str(project.directory), "-o", "/dev/null"),
        *("-W", "124", "-q", "large", "-P", "chip b0", "-M", "512"),
        *("-R", "select[bigmem && rhel8 && (tmp>100 || swp>100)] rusage[mem=512] span[hosts=1]"),
    ]


def test_L5_L6_L7_what_a_tag_and_its_class_ask_for_reaches_bsub(project: Project, lsf: FakeLsf) -> None:
    write(project, EVERYTHING, lsf=OPTIONS)
    answer = project.dfm("run", "a")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    [call] = lsf.invocations("bsub")
    assert flags(list(call.argv)) == expected(project)


def test_a_dry_run_shows_the_same_words_once_for_each_shape(project: Project, lsf: FakeLsf) -> None:
    write(project, EVERYTHING, lsf=OPTIONS)
    asked = {"run": "true", "tags": [{"std.ResourceTag": EVERYTHING}]}
    project.write_flow({"a": asked, "b": asked, "plain": "true", "all": {"run": "true", "needs": ["a", "b", "plain"]}})
    answer = project.dfm("run", "all", "--dry-run")
    assert answer.returncode == 0, answer.stderr
    assert lsf.invocations() == []
    shown = [shlex.split(line)[1:] for line in answer.stdout.splitlines() if line.startswith("bsub ")]
    assert [words[1].split("-")[-3:] for words in shown] == [["1", "1", "1"], ["1", "2", "1"]]
    [small, large] = sorted(map(flags, shown), key=len)
    assert (small[:2], large) == (["-n", "1"], expected(project))
    told = [line.split() for line in answer.stdout.splitlines() if line.startswith("for ")]
    assert sorted(sorted(word.strip(",") for word in words if word.startswith("p.")) for words in told) == [
        ["p.a", "p.b"],
        ["p.all", "p.plain"],
    ]


def test_a_dry_run_with_arrays_shows_the_array_that_a_run_submits(project: Project, lsf: FakeLsf) -> None:
    write(project, {}, lsf={"use_arrays": True})
    project.write_flow({"a": "true", "b": "true"})
    answer = project.dfm("run", "a", "b", "--dry-run")
    assert answer.returncode == 0, answer.stderr
    [shown] = [shlex.split(line)[1:] for line in answer.stdout.splitlines() if line.startswith("bsub ")]
    assert project.dfm("run", "a", "b").returncode == 0
    [call] = lsf.invocations("bsub")
    assert shown[1].endswith("[1-2]")
    assert [word for word in shown if not own(word)] == [word for word in call.argv if not own(word)]


def own(word: str) -> bool:
    """Whether a word tells one run from another."""
    return "dfm-" in word or "/access/" in word


def test_the_queue_of_the_option_is_that_of_tasks_that_name_none(project: Project, lsf: FakeLsf) -> None:
    write(project, {"cores": 1}, lsf={"queue": "large"})
    assert project.dfm("run", "a").returncode == 0
    [job] = lsf.jobs()
    assert job.queue == "large"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"queue": "-K"}, "queue of the task: '-K' begins with '-' and would be taken for an option"),
        ({"queue": "a;b"}, "queue of the task: 'a;b' is no name of a queue"),
        ({"resource_class": "open"}, "resource_select of the task: '(mem>1': '(' is not closed"),
        ({"resource_class": "quoted"}, 'resource_select of the task: "type==\'x": a quote is not closed'),
        ({"resource_class": "dashed"}, "resource_select of the task: '-R x' begins with '-'"),
        ({"resource_class": "two"}, "resource_select of the task: 'a] rusage[mem=1' is no predicate"),
    ],
)
def test_what_lsf_would_misread_is_refused_and_nothing_is_submitted(
    project: Project, lsf: FakeLsf, asked: Mapping[str, object], told: str
) -> None:
    write(project, asked)
    classes = {"open": "(mem>1", "quoted": "type=='x", "dashed": "-R x", "two": "a] rusage[mem=1"}
    project.write_settings(
        {
            "default": "lsf",
            "pool": dict(QUICK_POOL),
            "resource_classes": {name: {"resource_select": [text]} for name, text in classes.items()},
        }
    )
    dry = project.dfm("run", "a", "--dry-run")
    assert (dry.returncode, told in dry.stderr) == (7, True), dry.stderr
    answer = project.dfm("run", "a")
    assert (answer.returncode, told in answer.stdout) == (7, True), answer.stdout
    assert lsf.invocations() == []


@pytest.mark.parametrize("option", ["queue=-K", "project=-K", "user_group=-x", "hosts=-h", "resource_select=-x"])
def test_a_value_of_an_option_that_would_be_an_option_of_bsub_is_wrong_use(
    project: Project, lsf: FakeLsf, option: str
) -> None:
    write(project, {"cores": 1})
    answer = project.dfm("run", "a", "--runner-opt", option)
    assert (answer.returncode, lsf.invocations()) == (2, [])
    assert option.partition("=")[2] in answer.stderr

"""Runners of others: found by their metadata, imported only when chosen, harmless to who does not choose them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Answer = subprocess.CompletedProcess[str]
Dfm = Callable[..., Answer]
Flow = Callable[[str], Path]
Install = Callable[..., dict[str, str]]

PLUGIN = """
import sys
from dataclasses import dataclass
from dfm.api.batch import Command, Finding, Probe, Standing
from dfm.api.errors import RunnerError
from dfm.api.hookspecs import hookimpl
from dfm.api.options import Unit, option
from dfm.api.runner import RunnerPlugin

@dataclass(frozen=True)
class Options:
    queue: str | None = option(None, doc="queue of jobs", aliases=("partition",))
    patience: float = option(60.0, unit=Unit.DURATION, doc="how long to wait")
    level: str = option("low", doc="how much", choices=("low", "high"))

class Dialect:
    name = "mine"
    def __init__(self, options):
        self.options = options
    def probes(self):
        def judge(output):
            if output.is_timed_out:
                return [Finding(standing=Standing.ERROR, text="no answer in time", hint="ask the admin")]
            if output.status:
                return [Finding(standing=Standing.ERROR, text=f"status {output.status}: {output.stderr}", hint="install it")]
            return [Finding(standing=Standing.OK, text=output.stdout.strip())]
        def broken(output):
            return output.no_such_attribute
        return [
            Probe(name="there", command=Command(argv=("echo", "here")), judge=judge),
            Probe(name="absent", command=Command(argv=("no-such-tool-anywhere",)), judge=judge),
            Probe(name="slow", command=Command(argv=("sh", "-c", "trap '' TERM; sleep 1000"), timeout_seconds=0.2), judge=judge),
            Probe(name="env", command=Command(argv=("sh", "-c", "echo [$X_A$X_B$KEEP]"), unset_env=("X_*", "KEEP"), keep_env=("KEEP", "X_B")), judge=judge),
            Probe(name="broken", command=Command(argv=("true",)), judge=broken),
        ]

def open_it(context, options):
    return context.pool(Dialect(options))

def checks(options):
    return [Finding(standing=Standing.WARNING, text=f"queue {options.queue} is full", hint="wait")]

@hookimpl
def dfm_runner():
    return RunnerPlugin(name="mine", summary="a runner of mine", options=Options, open=open_it, checks=checks,
                        resources=frozenset({"cores", "memory_bytes"}), help="Two lines\\nof help.")
"""


@pytest.fixture
def install(tmp_path: Path, flow: Flow) -> Install:
    """Put a distribution on the path of Python: its metadata, and its module."""
    flow("package: {name: p, tasks: [{name: a, run: 'touch ran'}]}")
    site = tmp_path / "site"
    site.mkdir()

    def call(distribution: str, module: str, text: str, *, name: str = "mine") -> dict[str, str]:
        metadata = site / f"{distribution.replace('-', '_')}-1.5.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n", encoding="utf-8"
        )
        (metadata / "entry_points.txt").write_text(f"[dfm_runners]\n{name} = {module}\n", encoding="utf-8")
        (site / f"{module}.py").write_text(text, encoding="utf-8")
        return {"PYTHONPATH": str(site)}

    return call


def test_a_runner_is_listed_with_all_that_it_declares(dfm: Dfm, install: Install) -> None:
    env = install("their-runner", "their_plugin", PLUGIN)
    answer = dfm("runners", "--json", env=env)
    row = next(row for row in json.loads(answer.stdout)["runners"] if row["name"] == "mine")
    assert (row["distribution"], row["version"], row["state"], row["summary"]) == (
        "their-runner",
        "1.5",
        "ready",
        "a runner of mine",
    )
    assert (row["resources"], row["help"]) == (["cores", "memory_bytes"], "Two lines\nof help.")
    assert [(option["name"], option["type"], option["unit"], option["default"]) for option in row["options"]] == [
        ("queue", "text", None, None),
        ("patience", "duration", "duration", "1m"),
        ("level", "text", None, "low"),
    ]
    text = dfm("runners", env=env).stdout
    assert "mine (their-runner 1.5): a runner of mine\n  Two lines\n  of help.\n" in text
    assert "    patience='1m'  how long to wait (duration)\n" in text


def test_its_options_are_checked_and_nothing_is_submitted(dfm: Dfm, install: Install, tmp_path: Path) -> None:
    env = install("their-runner", "their_plugin", PLUGIN)
    answer = dfm("run", "a", "--runner", "mine", "--runner-opt", "quueue=x", env=env)
    assert answer.stderr == (
        "dfm: error: runner mine has no option 'quueue' (set by --runner-opt)\n  hint: did you mean 'queue'?\n"
    )
    assert answer.returncode == 2
    assert not list(tmp_path.rglob("ran"))


def test_a_broken_plugin_harms_only_who_chooses_it(dfm: Dfm, install: Install) -> None:
    env = install("their-runner", "their_plugin", "raise ZeroDivisionError('oh')")
    assert dfm("run", "a", env=env).returncode == 0
    answer = dfm("run", "a", "--runner", "mine", env=env)
    told = "runner 'mine' of their-runner 1.5 cannot be imported: ZeroDivisionError: oh"
    assert (answer.returncode, told in answer.stderr) == (7, True)
    rows = json.loads(dfm("runners", "--json", env=env).stdout)["runners"]
    assert [row["state"] for row in rows if row["name"] in ("local", "mine")] == ["ready", "broken"]
    shown = dfm("config", "show", env=env)
    assert (shown.returncode, told in shown.stderr) == (0, True)
    doctor = dfm("doctor", env=env)
    assert f"warning  runners: {told}" in doctor.stdout
    assert doctor.returncode == 0


def test_a_plugin_is_not_imported_unless_it_is_chosen(dfm: Dfm, install: Install, tmp_path: Path) -> None:
    env = install("their-runner", "their_plugin", f"open({str(tmp_path / 'imported')!r}, 'w').close()\n{PLUGIN}")
    assert dfm("run", "a", env=env).returncode == 0
    assert dfm("run", "a", "--runner", "nine", env=env).returncode == 2
    assert not (tmp_path / "imported").exists()
    dfm("run", "a", "--runner", "mine", env=env)
    assert (tmp_path / "imported").exists()


def test_two_claims_to_one_name_are_refused_with_both_distributions(dfm: Dfm, install: Install) -> None:
    install("their-runner", "their_plugin", PLUGIN)
    env = install("other-runner", "other_plugin", PLUGIN)
    answer = dfm("run", "a", "--runner", "mine", env=env)
    assert "two distributions claim the runner 'mine': other-runner 1.5 and their-runner 1.5" in answer.stderr
    assert answer.returncode == 7
    assert dfm("run", "a", env=env).returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name="mine",', 'name="mine", api_version=99,', "was written for version 99 of DFM's runner API; this is 1"),
        ("@hookimpl", "", "does not implement the hook dfm_runner"),
        ('str = option("low"', 'complex = option("low"', "the option 'level' has a type that options cannot have"),
        ('name="mine",', 'name="yours",', "calls itself 'yours'"),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_told(dfm: Dfm, install: Install, old: str, new: str, told: str) -> None:
    env = install("their-runner", "their_plugin", PLUGIN.replace(old, new))
    answer = dfm("run", "a", "--runner", "mine", env=env)
    assert told in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.returncode == 7
    for words in (["config", "show"], ["runners"], ["doctor"]):
        other = dfm(*words, env=env)
        assert (other.returncode, told in other.stdout + other.stderr) == (0, True)


@pytest.mark.parametrize("name", ["pool", "default", "defaults", "type", "resource_classes"])
def test_no_runner_can_take_the_name_of_a_setting(dfm: Dfm, install: Install, name: str) -> None:
    env = install("their-runner", "their_plugin", PLUGIN.replace('name="mine"', f'name="{name}"'), name=name)
    answer = dfm("run", "a", "--runner", name, env=env)
    assert (answer.returncode, "is the name of a setting" in answer.stderr) == (7, True)


def test_its_section_may_stand_in_any_file_once_it_is_installed(dfm: Dfm, install: Install, tmp_path: Path) -> None:
    (tmp_path / ".dfm").mkdir()
    (tmp_path / ".dfm" / "config.yaml").write_text("runner: {mine: {partition: a, patience: 5m}}", encoding="utf-8")
    refused = dfm("run", "a")
    assert (refused.returncode, "config.yaml:1:10: unknown key 'mine'" in refused.stderr) == (3, True)
    env = install("their-runner", "their_plugin", PLUGIN)
    assert dfm("run", "a", env=env).returncode == 0
    shown = json.loads(dfm("config", "show", "--json", env=env).stdout)["settings"]["runner"]["mine"]
    assert shown == {"queue": "a", "patience": "5m", "level": "low"}


def test_doctor_asks_the_probes_of_the_chosen_runner_and_its_own_checks(dfm: Dfm, install: Install) -> None:
    env = install("their-runner", "their_plugin", PLUGIN) | {"X_A": "a", "X_B": "b", "KEEP": "c"}
    classes = "runner: {resource_classes: {big: {cores: 8, queue: large}}}"
    Path(env["PYTHONPATH"], "..", "extra.yaml").write_text(classes, encoding="utf-8")
    words = ["--runner", "mine", "--runner-opt", "queue=q", "--config-file", "extra.yaml"]
    answer = dfm("doctor", "--json", *words, env=env)
    found = {
        check["name"]: [(item["standing"], item["text"], item["fix"]) for item in check["findings"]]
        for check in json.loads(answer.stdout)["checks"]
    }
    assert found["mine: there"] == [("ok", "here", "")]
    [(standing, text, fix)] = found["mine: absent"]
    assert (standing, text[:11], fix) == ("error", "status 127:", "install it")
    assert found["mine: slow"] == [("error", "no answer in time", "ask the admin")]
    assert found["mine: env"] == [("ok", "[bc]", "")]
    assert found["mine: broken"][0][0] == "error"
    assert found["mine: own checks"] == [("warning", "queue q is full", "wait")]
    heeded = "resource class big asks for queue, which runner mine does not heed"
    assert ("warning", heeded) in [(item[0], item[1]) for item in found["runner mine"]]
    assert answer.returncode == 7

"""Settings through the installed `dfm`: layers on disk, what wins, and every mistake with its place and exit status."""

import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Answer = subprocess.CompletedProcess[str]
Dfm = Callable[..., Answer]
Flow = Callable[[str], Path]
Write = Callable[..., None]

FLOW = "package: {name: p, tasks: [{name: a, run: 'touch ran'}]}"


@pytest.fixture
def write(tmp_path: Path, flow: Flow) -> Write:
    """Write the layers' files, in a project whose flow has one task."""
    flow(FLOW)

    def call(**layers: str) -> None:
        for layer, text in layers.items():
            path = tmp_path / {"project": ".dfm/config.yaml", "site": "xdg/dfm/site.yaml"}.get(layer, f"{layer}.yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    return call


def has_run(directory: Path) -> bool:
    return bool(list(directory.rglob("ran")))


def refused(answer: Answer, status: int, *told: str) -> None:
    for words in told:
        assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert (answer.returncode, answer.stdout) == (status, "")


INSTALLATION = {"DFM_INSTALL_CONFIG": "installation.yaml"}

BROKEN_FILES = [
    ("runner: [\n", "2:1: not YAML"),
    ("runner:\n  pool: {max_workrs: 3}\n", "2:10: runner.pool has no key 'max_workrs'\n  hint: did you mean 'max_workers'?"),
    ("runner:\n  pol: {}\n", "2:3: unknown key 'pol'"),
    ("runner:\n  pool: {max_workers: many}\n", "2:23: runner.pool.max_workers: a whole number is wanted, not 'many'"),
    ("runner:\n  pool: {idle_timeout: 300}\n", "2:24: runner.pool.idle_timeout: '300' is no duration"),
    ("runner:\n  defaults: {memory: 8}\n", "2:22: runner.defaults.memory: '8' is no amount of memory"),
    ("[a, b]\n", "1:1: settings are a mapping, and this is a list"),
    ("runner:\n  default: local\n  type: lsf\n", "3:3: `default` and `type` mean the same and contradict each other"),
    ("runner:\n  local: {kill_grase: 3s}\n", "2:11: runner local has no option 'kill_grase'\n  hint: did you mean 'kill_grace'?"),
    ("runner:\n  default: locl\n", "2:12: there is no runner 'locl'\n  hint: did you mean 'local'?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "text", "told"),
    [(layer, *fault) for layer, fault in zip(itertools.cycle(["installation", "site", "project"]), BROKEN_FILES)],
    ids=[told for _, told in BROKEN_FILES],
)
def test_a_fault_in_any_layer_stops_the_run_with_its_place(
    dfm: Dfm, write: Write, tmp_path: Path, layer: str, text: str, told: str
) -> None:
    write(**{layer: text})
    answer = dfm("run", "a", env=INSTALLATION if layer == "installation" else {})
    name = {"project": ".dfm/config.yaml", "site": "xdg/dfm/site.yaml"}.get(layer, f"{layer}.yaml")
    refused(answer, 3, f"dfm: error: {name}:{told}")
    assert not has_run(tmp_path)


def test_a_directory_in_the_place_of_a_file_is_a_fault(dfm: Dfm, write: Write, tmp_path: Path) -> None:
    write()
    (tmp_path / ".dfm" / "config.yaml").mkdir(parents=True)
    refused(dfm("run", "a"), 3, ".dfm/config.yaml:1:1: the settings file cannot be read: Is a directory")


def test_the_file_that_a_variable_names_must_exist(dfm: Dfm, write: Write) -> None:
    write()
    refused(dfm("run", "a", env=INSTALLATION), 3, "installation.yaml:1:1", "DFM_INSTALL_CONFIG", "No such file")
    refused(dfm("run", "a", "--config-file", "extra.yaml"), 3, "extra.yaml:1:1", "--config-file", "No such file")


BAD_OPTIONS = [
    (["--runner-opt", "kill_grace"], "--runner-opt 'kill_grace' is not key=value"),
    (["--runner-opt", "=3s"], "--runner-opt '=3s' is not key=value"),
    (["--runner-opt", "kill_grase=3s"], "runner local has no option 'kill_grase' (set by --runner-opt)\n  hint: did you mean 'kill_grace'?"),
    (["--runner-opt", "queue=x"], "runner local has no option 'queue' (set by --runner-opt)\n  hint: it has: kill_grace"),
    (["--runner-opt", "kill_grace=3"], "runner.local.kill_grace: '3' is no duration"),
    (["--runner", "lfs"], "there is no runner 'lfs'\n  hint: did you mean 'lsf'? (installed are: local"),
    (["--runner", "nothing_like_it"], "there is no runner 'nothing_like_it'\n  hint: installed are: local"),
    (["--runner", ""], "--runner names no runner"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "told"), BAD_OPTIONS)
def test_wrong_options_are_wrong_use_and_nothing_runs(
    dfm: Dfm, write: Write, tmp_path: Path, words: list[str], told: str
) -> None:
    write()
    refused(dfm("run", "a", *words), 2, told)
    assert not has_run(tmp_path)


def test_an_unknown_runner_of_the_environment_is_wrong_use(dfm: Dfm, write: Write) -> None:
    write()
    refused(dfm("run", "a", env={"DFM_RUNNER": "locl"}), 2, "there is no runner 'locl'", "did you mean 'local'?")


def test_a_lock_tells_by_whom_and_where(dfm: Dfm, write: Write) -> None:
    write(installation="runner:\n  local: {kill_grace: !lock 2s}\n", project="runner: {local: {kill_grace: 9s}}\n")
    told = "runner.local.kill_grace is locked to '2s' by the installation at installation.yaml:2:23"
    refused(dfm("run", "a", env=INSTALLATION), 3, f".dfm/config.yaml:1:30: {told}")
    words = ["--no-config", "--runner-opt", "kill_grace=9s"]
    refused(dfm("run", "a", *words, env=INSTALLATION), 2, f"{told} (set by --runner-opt)")


def test_a_locked_runner_cannot_be_left(dfm: Dfm, write: Write) -> None:
    write(installation="runner: {default: !lock local}")
    refused(dfm("run", "a", "--runner", "lsf", env=INSTALLATION), 2, "runner.default is locked to 'local'", "--runner")
    assert dfm("run", "a", "--runner", "local", env=INSTALLATION).returncode == 0


def test_the_settings_of_the_project_are_those_beside_its_flow_file(dfm: Dfm, write: Write, tmp_path: Path) -> None:
    write(project="runner: {pool: {max_workers: 3}}")
    below = tmp_path / "below"
    below.mkdir()
    for words, cwd in ((["--root", "flow.yaml"], tmp_path), ([], below)):
        shown = json.loads(dfm("config", "show", "--json", *words, cwd=cwd).stdout)
        assert shown["settings"]["runner"]["pool"]["max_workers"] == 3


def test_show_tells_the_layer_and_the_place_of_each_value(dfm: Dfm, write: Write) -> None:
    write(installation="runner: {pool: {max_workers: 3}}", site="runner: {local: {kill_grace: 1s}}")
    answer = dfm("config", "show", "--origin", "--runner", "local", env=INSTALLATION)
    lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
    assert "default: local # --runner" in lines
    assert "max_workers: 3 # installation: installation.yaml:1:30" in lines
    assert "kill_grace: 1s # site: xdg/dfm/site.yaml:1:30" in lines
    assert "min_workers: 0 # default" in lines
    assert answer.returncode == 0


def test_show_prints_what_it_can_beside_the_faults(dfm: Dfm, write: Write) -> None:
    write(project="runner: {pool: {max_workers: 3, prt: 1}}")
    answer = dfm("config", "show")
    assert "max_workers: 3" in answer.stdout
    assert "runner.pool has no key 'prt'" in answer.stderr
    assert answer.returncode == 3
    assert json.loads(dfm("config", "show", "--json").stdout)["errors"][0]["location"]["column"] == 33


def test_explain_tells_every_say_and_the_winner(dfm: Dfm, write: Write) -> None:
    write(installation="runner: {pool: {port: 1}}", site="runner: {pool: {port: 2}}")
    answer = dfm("config", "explain", "runner.pool.port", "--json", env=INSTALLATION)
    [setting] = json.loads(answer.stdout)["settings"]
    assert [(said["layer"], said["value"], said["role"]) for said in setting["candidates"]] == [
        ("default", 0, "loses"),
        ("installation", 1, "loses"),
        ("site", 2, "wins"),
    ]
    assert setting["why"] == "site: xdg/dfm/site.yaml:1:23 is the nearest that sets it"
    assert dfm("config", "explain", "runner.type").stdout.startswith("runner.default: 'local'\n")
    refused(dfm("config", "explain", "runner.pool.prot"), 2, "did you mean 'runner.pool.port'?")


def test_validate_tells_every_fault_of_a_file(dfm: Dfm, write: Write) -> None:
    write(good="runner: {pool: {port: 1}}", bad="x: 1\nrunner: {local: {y: 1}}")
    assert dfm("config", "validate", "good.yaml").stdout == "good.yaml: no faults\n"
    answer = dfm("config", "validate", "bad.yaml")
    refused(answer, 3, "bad.yaml:1:1: unknown key 'x'", "bad.yaml:2:18: runner local has no option 'y'")
    report = json.loads(dfm("config", "validate", "bad.yaml", "--json").stdout)
    assert (report["valid"], report["error_count"]) == (False, 2)
    write(lost="runner: {default: locl}")
    refused(dfm("config", "validate", "lost.yaml"), 3, "lost.yaml:1:19: there is no runner 'locl'")
    refused(dfm("config", "validate", "ghost.yaml"), 3, "ghost.yaml:1:1", "No such file")


def test_schema_describes_every_setting(dfm: Dfm) -> None:
    schema = json.loads(dfm("config", "schema").stdout)
    runner = schema["properties"]["runner"]["properties"]
    assert {"default", "type", "pool", "defaults", "resource_classes", "local"} <= set(runner)
    assert runner["pool"]["properties"]["idle_timeout"]["default"] == "5m"


def test_the_rerun_command_keeps_the_settings(dfm: Dfm, flow: Flow, write: Write) -> None:
    write(extra="runner: {local: {kill_grace: 1s}}")
    flow("package: {name: p, tasks: [{name: a, run: 'false'}]}")
    answer = dfm("run", "a", "--no-config", "--runner-opt", "kill_grace=2s")
    assert "--no-config --runner-opt kill_grace=2s" in answer.stdout + answer.stderr
    assert "--config-file extra.yaml" in dfm("run", "a", "--config-file", "extra.yaml").stdout

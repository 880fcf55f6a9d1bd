"""What a person is told of settings: the value, every layer's say, and why; and a file that says the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dfm.api.runner import RunnerPlugin
from dfm.core.config.explain import as_json, as_nested, as_text, as_yaml
from dfm.core.config.faults import ConfigInvalid
from dfm.core.config.load import Settings, check_file, load_settings
from dfm.core.config.merge import Effective

Load = Callable[..., Settings]
LAYERS = (
    "runner: {pool: {max_workers: !max 8}, lsf: {queue: !lock regr, select: [a]}}",
    "runner: {lsf: {select: [b]}, resource_classes: {big: {cores: 4, memory: 16G}}}",
    "runner: {pool: {max_workers: 6, env_deny: [MY_*], idle_timeout: 90m}, lsf: {plain: 'yes', variables: {A: 'x: y'}}}",
)


def everything(settings: Settings, plugin: RunnerPlugin) -> list[Effective]:
    return [*settings.core, *settings.runner_settings(plugin)]


def one(settings: Settings, key: str) -> Effective:
    return next(item for item in settings.core if item.key == key)


def test_an_explanation_tells_every_layer_and_why(load: Load) -> None:
    assert as_text(one(load(*LAYERS, runner="lsf"), "runner.pool.max_workers")).splitlines() == [
        "runner.pool.max_workers: 6",
        (
            "  most workers at once, waiting ones included; see extra_workers; of worker processes on this host, where nobody "
            "says, as many as there are CPUs"
        ),
        "  whole number; at least 1; the nearest layer wins; default 16",
        "  limits  installation: installation.yaml:1:30  at most 8",
        "  wins    project: .dfm/config.yaml:1:30        6",
        "  loses   default                               16",
        "  why: project: .dfm/config.yaml:1:30 is the nearest that sets it",
    ]


def test_an_explanation_tells_between_what_a_number_must_be(load: Load) -> None:
    item = one(load(), "runner.pool.port")
    assert (
        as_text(item).splitlines()[2] == "  whole number; at least 0; at most 65535; the nearest layer wins; default 0"
    )


def test_an_explanation_tells_what_a_cap_brought_down(load: Load) -> None:
    item = one(load(LAYERS[0], runner="lsf"), "runner.pool.max_workers")
    assert as_text(item).splitlines()[-1] == (
        "  why: default asks for more than is allowed by installation: installation.yaml:1:30"
    )
    assert as_json(item)["origin"] == {"layer": "installation", "source": "installation.yaml", "line": 1, "column": 30}


def test_an_explanation_tells_who_locked_a_key(load: Load, plugin: RunnerPlugin) -> None:
    queue = load(*LAYERS).runner_settings(plugin)[0]
    assert as_text(queue).splitlines()[-1] == (
        "  why: installation: installation.yaml:1:52 is the nearest that sets it;"
        " locked by installation: installation.yaml:1:52"
    )


def test_a_list_names_the_place_of_each_part(load: Load, plugin: RunnerPlugin) -> None:
    text = as_yaml(everything(load(*LAYERS), plugin), is_with_origin=True)
    [line] = [line for line in text.splitlines() if line.lstrip().startswith("select:")]
    assert line.split("  # ") == [
        "    select: !replace [a, b]                     ",
        "installation: installation.yaml:1:72; site: xdg/dfm/site.yaml:1:24",
    ]


def test_what_is_shown_is_a_file_that_says_the_same(load: Load, plugin: RunnerPlugin, tmp_path: Path) -> None:
    shown = everything(load(*LAYERS), plugin)
    again = tmp_path / "again.yaml"
    again.write_text(as_yaml(shown, is_with_origin=True), encoding="utf-8")
    assert check_file(str(again), [plugin]) == []
    settings = load_settings({"DFM_INSTALL_CONFIG": str(again), "XDG_CONFIG_HOME": str(tmp_path / "none")})
    assert as_nested(everything(settings, plugin)) == as_nested(shown)


def test_what_nobody_here_declares_is_shown_as_it_is_written(load: Load) -> None:
    settings = load("runner: {slurm: {a: [1], b: {c: d}, e: 1:30}}", "runner: {slurm: {a: [2], e: 90m}}")
    assert as_nested(settings.undeclared("slurm")) == {
        "runner": {"slurm": {"a": ["1", "2"], "b": {"c": "d"}, "e": "90m"}}
    }


def test_a_secret_is_never_shown(load: Load, plugin: RunnerPlugin) -> None:
    settings = load("runner: {lsf: {key: right}}", "runner: {lsf: {key: !lock right}}")
    found = settings.runner_settings(plugin)
    assert settings.runner_options(plugin).key == "right"
    told = "".join(as_text(item) + str(as_json(item)) for item in found) + as_yaml(found, is_with_origin=True)
    assert "right" not in told
    with pytest.raises(ConfigInvalid) as caught:
        load("runner: {lsf: {key: hunter2}}").runner_options(plugin)
    assert str(caught.value) == "installation.yaml:1:21: runner.lsf.key: the value is not possible"

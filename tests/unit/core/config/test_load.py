"""Layers of settings: what wins, what is joined, what is locked, and what every mistake is told like."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.api.errors import DfmError, FlowError, SourceLocation, UsageError
from dfm.api.options import OptionSpec
from dfm.api.runner import Resources, RunnerPlugin
from dfm.core.config.faults import ConfigInvalid, Faults
from dfm.core.config.layers import DEFAULT_ORIGIN, Layer, Origin
from dfm.core.config.load import Settings
from dfm.core.config.merge import Given, Layered
from dfm.core.config.nodes import Listing, Scalar, Style, Tag
from dfm.core.config.schema import Kind, Setting, names_of, settings_of
from dfm.core.config.sections import CHOICE, CLASSES, SECTIONS
from dfm.core.config.settings import PoolSettings, ResourceClass, ResourceDefaults
from dfm.core.plugins.discovery import RESERVED_NAMES

Load = Callable[..., Settings]
GIB = 1024**3


def faults_of(error: pytest.ExceptionInfo[ConfigInvalid]) -> list[str]:
    return [f"{fault} [{fault.hint}]" if fault.hint else str(fault) for fault in error.value.faults]


def test_without_files_the_declared_defaults_hold(load: Load) -> None:
    settings = load()
    assert settings.runner_name == "local"
    assert settings.pool == PoolSettings(max_workers=len(os.sched_getaffinity(0)))
    assert load(runner="lsf").pool == PoolSettings()
    assert settings.rules.defaults == ResourceDefaults(cores=1, memory=GIB, walltime=3600.0)
    assert settings.resource_classes == {}


@pytest.mark.parametrize(
    ("layers", "chosen", "origin"),
    [
        ({}, "local", DEFAULT_ORIGIN),
        ({"installation": "runner: {type: slurm}"}, "slurm", "installation.yaml:1:16"),
        ({"installation": "runner: {type: slurm}", "site": "runner: {default: lsf}"}, "lsf", "xdg/dfm/site.yaml:1:19"),
        ({"site": "runner: {default: lsf}", "project": "runner: {default: local}"}, "local", ".dfm/config.yaml:1:19"),
        ({"project": "runner: {default: local}", "extra": "runner: {default: lsf}"}, "lsf", "extra.yaml:1:19"),
        ({"extra": "runner: {default: lsf}", "environ": {"DFM_RUNNER": "slurm"}}, "slurm", "DFM_RUNNER"),
        ({"environ": {"DFM_RUNNER": ""}}, "local", DEFAULT_ORIGIN),
        ({"environ": {"DFM_RUNNER": "slurm"}, "runner": "lsf"}, "lsf", "--runner"),
    ],
)
def test_the_nearest_layer_chooses_the_runner(
    load: Load, layers: Mapping[str, object], chosen: str, origin: Origin | str
) -> None:
    settings = load(**layers)
    assert settings.runner_name == chosen
    assert settings.runner.origin.text == (origin if isinstance(origin, str) else origin.text)


def test_no_config_leaves_out_all_files_but_the_installation(load: Load) -> None:
    settings = load(
        "runner: {pool: {port: 7}}", "runner: {default: lsf}", "runner: {pool: {port: 9}}", is_file_read=False
    )
    assert (settings.runner_name, settings.pool.port) == ("local", 7)


def test_amounts_are_decoded_to_base_units(load: Load, plugin: RunnerPlugin) -> None:
    options = load("runner: {lsf: {memory: 4GiB, patience: 1:30, command: ssh login1 'b sub'}}").runner_options(plugin)
    assert (options.memory, options.patience, options.command) == (4 * GIB, 5400.0, ("ssh", "login1", "b sub"))


def test_every_kind_of_option_can_be_given_on_the_command_line(load: Load, plugin: RunnerPlugin) -> None:
    settings = load(
        "",
        None,
        None,
        *("queue=a=b", "retries=7", "factor=0.5", "is_quiet=yes", "select=x", "select=y", "hosts=b", "hosts=c"),
        *("command=a 'b c'", "memory=2G", "patience=90m", "variables=A=1", "variables=B=2", "mode=safe", "plain=true"),
        runner="lsf",
    )
    options = settings.runner_options(plugin)
    assert (options.queue, options.retries, options.factor, options.is_quiet) == ("a=b", 7, 0.5, True)
    assert (options.select, options.hosts, options.command) == (("x", "y"), ("b", "c"), ("a", "b c"))
    assert (options.memory, options.patience, options.mode, options.plain) == (2 * GIB, 5400.0, "safe", "true")
    assert options.variables == {"A": "1", "B": "2"}


def test_scalars_replace_and_lists_accumulate_in_the_order_of_layers(load: Load, plugin: RunnerPlugin) -> None:
    settings = load(
        "runner: {lsf: {queue: night, select: [a], variables: {A: '1', B: '1'}}}",
        "runner: {lsf: {queue: day, select: [b, c], hosts: [h]}}",
        "runner: {lsf: {select: [d], variables: {B: '2'}}}",
        "select=e",
        runner="lsf",
    )
    options = settings.runner_options(plugin)
    assert (options.queue, options.select, options.hosts) == ("day", ("a", "b", "c", "d", "e"), ("h",))
    assert options.variables == {"A": "1", "B": "2"}


def test_replace_on_a_list_starts_anew(load: Load, plugin: RunnerPlugin) -> None:
    settings = load(
        "runner: {lsf: {select: [a]}}", "runner: {lsf: {select: !replace [b]}}", "runner: {lsf: {select: [c]}}"
    )
    assert settings.runner_options(plugin).select == ("b", "c")


def test_replace_on_a_list_drops_the_default_too(load: Load) -> None:
    assert load("runner: {pool: {env_deny: !replace [X]}}").pool.env_deny == ("X",)
    assert load("runner: {pool: {env_deny: [X]}}").pool.env_deny == (*PoolSettings().env_deny, "X")


def test_replace_on_a_section_drops_what_weaker_layers_said_in_it(load: Load) -> None:
    settings = load(
        "runner: {resource_classes: {big: {cores: 8}}}", "runner: {resource_classes: !replace {small: {cores: 1}}}"
    )
    assert settings.resource_classes == {"small": ResourceClass(cores=1)}


def test_a_class_with_nothing_in_it_exists(load: Load) -> None:
    assert load("runner: {resource_classes: {any: {}}}").resource_classes == {"any": ResourceClass()}


def test_an_alias_is_the_option_itself(load: Load, plugin: RunnerPlugin) -> None:
    settings = load("runner: {lsf: {queue: night}}", "runner: {lsf: {partition: day}}")
    assert settings.runner_options(plugin).queue == "day"


def test_null_takes_a_value_away(load: Load, plugin: RunnerPlugin) -> None:
    assert load("runner: {lsf: {queue: night}}", "runner: {lsf: {queue: }}").runner_options(plugin).queue is None


def test_a_runner_of_ours_that_is_not_chosen_may_have_any_options(load: Load) -> None:
    assert load("runner: {lsf: {whatever: [1, {a: b}]}}").configured_runners() == ["lsf"]


LOCKED = "runner:\n  lsf:\n    queue: !lock regr\n"


def test_a_locked_key_refuses_nearer_files_and_says_who_locked_it(load: Load, plugin: RunnerPlugin) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(LOCKED, None, "runner: {lsf: {queue: mine}}").runner_options(plugin)
    [told] = faults_of(caught)
    assert told == (
        ".dfm/config.yaml:1:23: runner.lsf.queue is locked to 'regr' by the installation at installation.yaml:3:12"
        " [leave it out, or ask whoever keeps that file]"
    )


def test_a_locked_key_refuses_the_command_line_as_wrong_use(load: Load, plugin: RunnerPlugin) -> None:
    with pytest.raises(
        UsageError, match=r"locked to 'regr' by the installation at installation.yaml:3:12 .*--runner-opt"
    ):
        load(LOCKED, None, None, "partition=mine", runner="lsf").runner_options(plugin)


def test_saying_what_is_locked_once_more_harms_nobody(load: Load, plugin: RunnerPlugin) -> None:
    assert load(LOCKED, None, None, "queue=regr", runner="lsf").runner_options(plugin).queue == "regr"


def test_a_locked_section_refuses_keys_that_it_does_not_name(load: Load, plugin: RunnerPlugin) -> None:
    with pytest.raises(UsageError, match=r"runner.lsf.retries is locked by the site at xdg/dfm/site.yaml:1:10"):
        load("", "runner: {lsf: !lock {queue: a}}", None, "retries=5", runner="lsf").runner_options(plugin)


def test_a_locked_list_takes_no_more(load: Load, plugin: RunnerPlugin) -> None:
    with pytest.raises(ConfigInvalid, match=r"runner\.lsf\.select is locked"):
        load("runner: {lsf: {select: !lock [a]}}", "runner: {lsf: {select: [a]}}").runner_options(plugin)


@pytest.mark.parametrize("evasion", ["pool: !replace {}", "pool: !replace {max_workers: 4}"])
def test_no_replace_drops_what_is_locked(load: Load, evasion: str) -> None:
    assert load("runner: {pool: {max_workers: !lock 4}}", f"runner: {{{evasion}}}").pool.max_workers == 4
    locked_class = "runner: {resource_classes: {big: !lock {cores: 8}}}"
    assert load(locked_class, "runner: !replace {}").resource_classes == {"big": ResourceClass(cores=8)}


def test_who_locks_may_start_anew(load: Load, plugin: RunnerPlugin) -> None:
    settings = load("runner: {lsf: {select: [a]}}", "runner: {lsf: !replace {select: !lock [b]}}")
    assert settings.runner_options(plugin).select == ("b",)


def test_a_lock_on_everything_locks_everything(load: Load) -> None:
    with pytest.raises(UsageError, match=r"runner\.default is locked by the installation"):
        load("runner: !lock {pool: {port: 1}}", runner="lsf")


def test_an_empty_word_takes_a_value_away(load: Load, plugin: RunnerPlugin) -> None:
    file = "runner: {lsf: {queue: night, select: [a]}}"
    options = load(file, None, None, "queue=", "select=", "plain=", runner="lsf").runner_options(plugin)
    assert (options.queue, options.select, options.plain) == (None, ("a",), "")


def test_of_a_word_that_is_given_twice_the_last_counts(load: Load, plugin: RunnerPlugin) -> None:
    assert load("", None, None, "queue=a", "partition=b", runner="lsf").runner_options(plugin).queue == "b"
    assert load("", None, None, "partition=b", "queue=a", runner="lsf").runner_options(plugin).queue == "a"


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_told(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".dfm").mkdir()
    (tmp_path / ".dfm" / "config.yaml").touch(mode=0o000)
    with pytest.raises(ConfigInvalid, match=r"\.dfm/config.yaml:1:1: .* Permission denied"):
        load()


def test_a_cap_refuses_more_and_lets_less_pass(load: Load) -> None:
    capped = "runner: {pool: {max_workers: !max 64}}"
    assert load(capped, "runner: {pool: {max_workers: 64}}").pool.max_workers == 64
    with pytest.raises(ConfigInvalid) as caught:
        load(capped, "runner: {pool: {max_workers: 65}}")
    [told] = faults_of(caught)
    assert told == (
        "xdg/dfm/site.yaml:1:30: runner.pool.max_workers: 65 is more than 64, the most that the installation allows at"
        " installation.yaml:1:30 [ask for 64 or less]"
    )


def test_a_cap_sets_nothing_but_brings_the_default_down(load: Load) -> None:
    assert load("runner: {pool: {max_workers: !max 64}}", runner="lsf").pool.max_workers == 16
    assert load("runner: {pool: {max_workers: !max 8}}", runner="lsf").pool.max_workers == 8
    assert load("runner: {pool: {walltime: !max 8h}}").pool.walltime is None


def test_the_lowest_of_several_caps_counts(load: Load) -> None:
    with pytest.raises(ConfigInvalid, match="more than 8, the most that the site allows"):
        load(
            "runner: {pool: {max_workers: !max 64}}",
            "runner: {pool: {max_workers: !max 8}}",
            "runner: {pool: {max_workers: 9}}",
        )


@pytest.fixture
def three_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 4})


@pytest.mark.usefixtures("three_cpus")
@pytest.mark.parametrize(
    ("pool", "most"),
    [
        ("{}", 3),
        ("{max_workers: 5}", 5),
        ("{max_workers: !max 2}", 2),
        ("{max_workers: !max 8}", 3),
        ("{min_workers: 4}", 4),
    ],
)
def test_a_pool_on_this_host_has_by_default_as_many_workers_as_there_are_cpus(load: Load, pool: str, most: int) -> None:
    assert load(f"runner: {{pool: {pool}}}").pool.max_workers == most


@pytest.mark.usefixtures("three_cpus")
def test_the_default_of_a_pool_on_this_host_is_shown_as_it_is(load: Load) -> None:
    [most] = [item for item in load().core if item.key == "runner.pool.max_workers"]
    assert (most.value, most.setting.default, most.origin) == (3, 3, DEFAULT_ORIGIN)


def test_the_pool_size_of_the_command_line_beats_all_files(load: Load) -> None:
    settings = load("runner: {pool: {max_workers: 3, min_workers: 2}}", pool_size=5)
    assert (settings.pool.max_workers, settings.pool.min_workers) == (5, 2)
    [most] = [item for item in settings.core if item.key == "runner.pool.max_workers"]
    assert most.origin == Origin(Layer.COMMAND_LINE, "--pool-size")


def test_a_pool_size_beyond_a_cap_is_wrong_use(load: Load) -> None:
    capped = "runner: {pool: {max_workers: !max 2}}"
    assert load(capped, pool_size=2).pool.max_workers == 2
    with pytest.raises(UsageError) as caught:
        load(capped, pool_size=5)
    assert (caught.value.message, caught.value.hint) == (
        (
            "runner.pool.max_workers: 5 is more than 2, the most that the installation allows at installation.yaml:1:30"
            " (set by --pool-size)"
        ),
        "ask for 2 or less",
    )


def test_a_pool_size_cannot_pass_a_lock(load: Load) -> None:
    locked = "runner: {pool: {max_workers: !lock 2}}"
    assert load(locked, pool_size=2).pool.max_workers == 2
    with pytest.raises(UsageError, match=r"locked to 2 by the installation at .* \(set by --pool-size\)"):
        load(locked, pool_size=1)


def test_a_pool_size_brings_down_how_many_workers_are_kept_unless_that_is_locked(load: Load) -> None:
    settings = load("runner: {pool: {min_workers: 4}}", pool_size=2)
    assert (settings.pool.max_workers, settings.pool.min_workers) == (2, 2)
    [least] = [item for item in settings.core if item.key == "runner.pool.min_workers"]
    assert (least.value, least.cap) == (2, Origin(Layer.COMMAND_LINE, "--pool-size"))
    with pytest.raises(UsageError, match=r"min_workers 4 is more than max_workers 2 \(--pool-size\)"):
        load("runner: {pool: {min_workers: !lock 4}}", pool_size=2)


BAD: list[tuple[str, str]] = [
    ("runner: [", "2:1: not YAML: did not find expected node content"),
    ("runner:\n\tpool: {}", "2:1: not YAML: found character that cannot start any token [indent with spaces, not with tabs]"),
    ("- a", "1:1: settings are a mapping, and this is a list [begin it with `runner:`]"),
    ("just text", "1:1: settings are a mapping, and this is 'just text' [begin it with `runner:`]"),
    ("runer: {}", "1:1: unknown key 'runer' [did you mean 'runner'?]"),
    ("runner: local", "1:9: runner is a mapping, and this is 'local'"),
    ("runner: {pol: {}}", "1:10: unknown key 'pol': neither a setting of `runner` nor the name of a runner [did you mean 'pool'?]"),
    ("runner: {pool: {max_workrs: 3}}", "1:17: runner.pool has no key 'max_workrs' [did you mean 'max_workers'?]"),
    ("runner: {pool: {max_workers: many}}", "1:30: runner.pool.max_workers: a whole number is wanted, not 'many' [such as 8]"),
    ("runner: {pool: {max_workers: '3'}}", "1:30: runner.pool.max_workers: a whole number is wanted, not '3' [write it without quotes]"),
    ("runner: {pool: {max_workers: 1.5}}", "1:30: runner.pool.max_workers: a whole number is wanted, not '1.5' [such as 8]"),
    ("runner: {pool: {max_workers: true}}", "1:30: runner.pool.max_workers: a whole number is wanted, not the switch true [such as 8]"),
    ("runner: {pool: {max_workers: [1]}}", "1:30: runner.pool.max_workers: a whole number is wanted, not a list"),
    ("runner: {pool: {max_workers: }}", "1:30: runner.pool.max_workers: a whole number is wanted, and there is nothing"),
    ("runner: {pool: {access_dir: run/keys}}", "1:29: runner.pool.access_dir: 'run/keys' is no absolute path"),
    ("runner: {pool: {port: 80000}}", "1:23: runner.pool.port: 80000 is more than 65535, the most that is possible"),
    ("runner: {pool: {max_workers: 0}}", "1:30: runner.pool.max_workers: 0 is less than 1, the least that is possible"),
    ("runner: {pool: {idle_timeout: 300}}", "1:31: runner.pool.idle_timeout: '300' is no duration: write it with its unit, such as 90m, 1:30 (hours:minutes) or 300s"),
    ("runner: {pool: {bind: host}}", "1:23: runner.pool.bind: a list is wanted, not 'host' [write [one, two], or one a line after `- `]"),
    ("runner: {pool: {bind: [yes]}}", "1:24: runner.pool.bind: a text is wanted, not the switch yes [put it in quotes]"),
    ("runner: {pool: {bind: [[a]]}}", "1:24: runner.pool.bind: a text is wanted in the list, not a list"),
    ("runner: {pool: {worker_command: \"a 'b\"}}", "1:33: runner.pool.worker_command: the command \"a 'b\" cannot be split into words: No closing quotation [write it as a list]"),
    ("runner: {defaults: {memory: 8 apples}}", "1:29: runner.defaults.memory: '8 apples' is no amount of memory: write it with its unit, such as 512M, 8G or 4GiB"),
    ("runner: {default: local, type: lsf}", "1:26: `default` and `type` mean the same and contradict each other: 'local' in line 1, 'lsf' here [keep one of them]"),
    ("runner: {resource_classes: {a b: {}}}", "1:29: 'a b' cannot be the name of a resource class [letters, digits, `_` and `-`]"),
    ("runner: {resource_classes: {a: {next: b}}}", "1:39: runner.resource_classes.a.next: there is no resource class 'b'"),
    ("runner: {resource_classes: {a: {memory: 2G, next: b}, b: {memory: 2048M}}}", "1:51: runner.resource_classes.a.next: b has 2G, no more memory than 2G"),
    ("runner: {resource_classes: {a: {next: a}}}", "1:39: runner.resource_classes.a.next: the classes go round in a circle: a -> a"),
    ("runner: {type: lsf, pool: {min_workers: 20}}", "1:41: runner.pool: min_workers 20 is more than max_workers 16 (default)"),
    ("runner: {pool: {port: 1, port: 2}}", "1:26: the key 'port' stands twice; the first is in line 1"),
    ("runner: {pool: {port: !lok 1}}", "1:23: unknown tag '!lok' [did you mean '!lock'?]"),
    ("runner: {pool: {port: !replace 1}}", "1:23: !replace does not fit here [!max goes with an amount, !replace with a list]"),
    ("runner: {default: !max 3}", "1:19: runner.default: !max goes with an amount, and this is none"),
    ("a: &a [*a]", "1:8: there is no anchor 'a' before this"),
    ("--- {}\n--- {}", "2:1: the file has more than one document"),
    ("[" * 40 + "]" * 40, "1:18: lists and mappings are nested more than 16 deep"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), BAD, ids=[text[:30] for text, _ in BAD])
def test_a_mistake_in_a_file_is_told_with_its_place(load: Load, text: str, told: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(text)
    assert faults_of(caught) == [f"installation.yaml:{told}"]


def test_all_faults_of_all_files_are_told_at_once(load: Load) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load("x: 1\nrunner: {y: 1}", "z: 1", "runner: [")
    assert [str(fault.location) for fault in caught.value.faults] == [
        ".dfm/config.yaml:2:1",
        "installation.yaml:1:1",
        "installation.yaml:2:10",
        "xdg/dfm/site.yaml:1:1",
    ]


BAD_WORDS: list[tuple[str, str]] = [
    ("quueue=x", "runner lsf has no option 'quueue' (set by --runner-opt) [did you mean 'queue'?]"),
    ("queue", "--runner-opt 'queue' is not key=value [write --runner-opt key=value]"),
    ("=x", "--runner-opt '=x' is not key=value [write --runner-opt key=value]"),
    (" =x", "--runner-opt ' =x' is not key=value [write --runner-opt key=value]"),
    ("retries=many", "runner.lsf.retries: a whole number is wanted, not 'many' (set by --runner-opt) [such as 8]"),
    ("retries=0", "runner.lsf.retries: 0 is less than 1, the least that is possible (set by --runner-opt)"),
    ("factor=inf", "runner.lsf.factor: a number is wanted, not 'inf' (set by --runner-opt) [such as 1.5]"),
    ("is_quiet=maybe", "runner.lsf.is_quiet: a true or false is wanted, not 'maybe' (set by --runner-opt) [such as true]"),
    ("mode=sfe", "runner.lsf.mode: 'sfe' is not possible (set by --runner-opt) [did you mean 'safe'?]"),
    ("variables=A", "runner.lsf.variables: 'A' is not NAME=VALUE (set by --runner-opt)"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "told"), BAD_WORDS)
def test_a_mistake_on_the_command_line_is_wrong_use(load: Load, plugin: RunnerPlugin, word: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        load("", None, None, word, runner="lsf").runner_options(plugin)
    assert (f"{caught.value} [{caught.value.hint}]" if caught.value.hint else str(caught.value)) == told


def test_aliases_cannot_blow_a_file_up(load: Load) -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))]
    with pytest.raises(ConfigInvalid, match="more than 100000 values"):
        load("\n".join(lines))


def test_a_directory_in_the_place_of_a_file_is_told(load: Load) -> None:
    with pytest.raises(ConfigInvalid, match=r"xdg/dfm:1:1: the settings file.* cannot be read: Is a directory"):
        load("", "", None, environ={"DFM_INSTALL_CONFIG": "xdg/dfm"})


def test_a_link_that_leads_nowhere_is_told(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".dfm").mkdir()
    (tmp_path / ".dfm" / "config.yaml").symlink_to("nowhere")
    with pytest.raises(ConfigInvalid, match=r"\.dfm/config.yaml:1:1: .* No such file"):
        load()


def test_text_that_is_not_utf_8_is_told_with_its_place(load: Load, tmp_path: Path) -> None:
    (tmp_path / ".dfm").mkdir()
    (tmp_path / ".dfm" / "config.yaml").write_bytes(b"runner:\n  type: \xff\n")
    with pytest.raises(ConfigInvalid, match=r"\.dfm/config.yaml:2:9: the file is not UTF-8: byte 0xff"):
        load()


WITH_CLASSES = """
runner:
  defaults: {cores: 2, memory: 3G, walltime: 2h}
  resource_classes:
    big: {cores: 8, memory: 64G, queue: large, resource_select: [bigmem]}
    fast: {queue: express}
"""


@pytest.mark.parametrize(
    ("asked", "resolved"),
    [
        (None, Resources(cores=2, memory_bytes=3 * GIB, wall_seconds=7200.0)),
        (Resources(cores=0), Resources(cores=2, memory_bytes=3 * GIB, wall_seconds=7200.0)),
        (Resources(cores=1, memory_bytes=5), Resources(cores=1, memory_bytes=5, wall_seconds=7200.0)),
        (
            Resources(cores=1, memory_bytes=5, queue="q", resource_class="big", resource_select=("ssd", "bigmem")),
            Resources(
                cores=8,
                memory_bytes=64 * GIB,
                wall_seconds=7200.0,
                queue="large",
                resource_class="big",
                resource_select=("bigmem", "ssd"),
            ),
        ),
        (
            Resources(cores=0, wall_seconds=5.0, queue="q", resource_class="fast"),
            Resources(cores=2, memory_bytes=3 * GIB, wall_seconds=5.0, queue="express", resource_class="fast"),
        ),
        (Resources(queue="q"), Resources(cores=1, memory_bytes=3 * GIB, wall_seconds=7200.0, queue="q")),
    ],
)
def test_the_class_beats_the_tag_and_the_tag_the_defaults(
    load: Load, asked: Resources | None, resolved: Resources
) -> None:
    assert load(WITH_CLASSES).resolve_resources(asked) == resolved


GROWING = """
runner:
  defaults: {memory: 2G}
  resource_classes:
    small: {memory: 1G, next: same}
    same: {cores: 4, next: big}
    big: {memory: 8G, walltime: 5h, next: any}
    any: {memory: 16G}
"""


def test_a_task_that_may_grow_gets_the_next_class_that_has_more_memory(load: Load) -> None:
    found = load(GROWING).resolve_resources(Resources(cores=0, resource_class="small", memory_bytes=1, may_grow=True))
    chain = [found]
    while chain[-1].larger is not None:
        chain.append(chain[-1].larger)
    classes = [(each.resource_class, each.memory_bytes, each.wall_seconds) for each in chain]
    assert classes == [("small", GIB, 3600.0), ("big", 8 * GIB, 18000.0), ("any", 16 * GIB, 3600.0)]


def test_a_task_that_may_not_grow_or_has_no_class_gets_nothing_larger(load: Load) -> None:
    settings = load(GROWING)
    for asked in (Resources(resource_class="small"), Resources(may_grow=True), Resources(resource_class="any")):
        assert settings.resolve_resources(asked).larger is None


def test_predicates_of_a_class_accumulate_over_layers(load: Load) -> None:
    settings = load(WITH_CLASSES, "runner: {resource_classes: {big: {resource_select: [ssd]}}}")
    assert settings.resource_classes["big"].resource_select == ("bigmem", "ssd")


def test_an_unknown_class_is_told_with_a_suggestion(load: Load) -> None:
    with pytest.raises(FlowError, match="there is no resource class 'bgi'") as caught:
        load(WITH_CLASSES).resolve_resources(Resources(resource_class="bgi"))
    assert caught.value.hint == "did you mean 'big'?"


@pytest.mark.parametrize(
    "declaration",
    [int, type("NoDefault", (), {"__annotations__": {"a": int}})],
)
def test_what_is_no_declaration_is_refused(declaration: type) -> None:
    with pytest.raises(TypeError):
        settings_of(declaration)


LIST = Setting("x", Kind.LIST, is_optional=False, default=("d",), spec=OptionSpec(doc=""))
NUMBER = Setting("x", Kind.INTEGER, is_optional=False, default=5, spec=OptionSpec(doc=""))
LAYERS = [layer for layer in Layer if layer is not Layer.DEFAULT]


def origin(layer: Layer) -> Origin:
    return Origin(layer, layer.shown, SourceLocation(layer.shown, 1, 1))


@given(st.dictionaries(st.sampled_from(LAYERS), st.tuples(st.lists(st.sampled_from("abc")), st.booleans())))
def test_a_list_is_what_layers_say_since_the_last_replace(says: dict[Layer, tuple[list[str], bool]]) -> None:
    layered, expected = Layered(), ["d"]
    for layer, (items, is_replacing) in sorted(says.items()):
        nodes = tuple(Scalar(None, item, Style.QUOTED) for item in items)
        layered.add(("x",), Given(origin(layer), Listing(None, nodes, Tag.REPLACE if is_replacing else Tag.NONE)))
        expected = items if is_replacing else expected + items
    faults = Faults()
    found = layered.effective(("x",), LIST, faults)
    assert (found.value, faults.found) == (tuple(expected), ())
    assert len(found.candidates) == len(says) + 1


@given(
    st.dictionaries(st.sampled_from(LAYERS), st.integers(0, 9)),
    st.dictionaries(st.sampled_from(LAYERS), st.integers(0, 9)),
)
def test_no_value_is_beyond_a_cap_and_each_nearer_layer_that_tries_is_told(
    values: dict[Layer, int], caps: dict[Layer, int]
) -> None:
    layered, faults = Layered(), Faults()
    for layer, number in sorted(caps.items()):
        layered.add(("x",), Given(origin(layer), Scalar(None, str(number), tag=Tag.MAX)))
    for layer, number in sorted(values.items()):
        layered.add(("x",), Given(origin(layer), Scalar(None, str(number))))
    found = layered.effective(("x",), NUMBER, faults)
    assert found.value <= min([*caps.values(), 9])
    tried = {layer for layer, number in values.items() for by, most in caps.items() if layer > by and number > most}
    assert {fault.location.file for fault in faults.found if fault.location} == {layer.shown for layer in tried}


def test_no_runner_can_take_the_name_of_a_setting() -> None:
    assert sorted(RESERVED_NAMES) == sorted([*names_of(CHOICE), *SECTIONS, CLASSES])


def test_errors_of_settings_exit_as_an_invalid_flow_does() -> None:
    assert ConfigInvalid([FlowError("x")]).exit_code == FlowError.exit_code
    assert issubclass(ConfigInvalid, DfmError)

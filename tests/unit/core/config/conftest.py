"""Layers of settings as a test writes them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from dfm.api.options import Merge, Unit, option
from dfm.api.runner import Runner, RunnerContext, RunnerPlugin
from dfm.core.config.layers import CliOptions
from dfm.core.config.load import Settings, load_settings


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """Every kind of option a runner may declare."""

    queue: str | None = option(None, doc="queue of jobs", aliases=("partition",))
    retries: int = option(3, doc="how often", minimum=1)
    factor: float = option(1.5, doc="by how much")
    is_quiet: bool = option(default=False, doc="whether it is")
    select: tuple[str, ...] = option((), doc="predicates")
    hosts: tuple[str, ...] = option(("a",), doc="hosts", merge=Merge.REPLACE)
    command: tuple[str, ...] = option(("bsub",), doc="command", unit=Unit.ARGV)
    memory: int | None = option(None, doc="memory", unit=Unit.MEMORY)
    patience: float = option(60.0, doc="patience", unit=Unit.DURATION)
    variables: dict[str, str] = option(doc="variables", default_factory=dict)  # noqa: RUF009  (it declares a field)
    mode: str = option("fast", doc="mode", choices=("fast", "safe"))
    key: str | None = option(None, doc="a secret", is_secret=True, check=lambda key: None if key == "right" else key)
    plain: str = dataclasses.field(default="x", metadata={"help": "a plain field"})


def never_opened(context: RunnerContext, options: object) -> Runner:
    raise AssertionError(f"{context} and {options} open nothing")


PLUGIN = RunnerPlugin(name="lsf", summary="a test's runner", options=Options, open=never_opened)

Load = Callable[..., Settings]


@pytest.fixture
def plugin() -> RunnerPlugin:
    return PLUGIN


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load settings from the texts of the layers; files are named `installation.yaml` and so on from here."""
    monkeypatch.chdir(tmp_path)

    def call(
        installation: str = "",
        site: str | None = None,
        project: str | None = None,
        *words: str,
        runner: str | None = None,
        environ: dict[str, str] | None = None,
        extra: str | None = None,
        is_file_read: bool = True,
        pool_size: int | None = None,
    ) -> Settings:
        (tmp_path / "installation.yaml").write_text(installation, encoding="utf-8")
        for name, text in {"xdg/dfm/site.yaml": site, ".dfm/config.yaml": project, "extra.yaml": extra}.items():
            if text is not None:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text, encoding="utf-8")
        return load_settings(
            {
                "DFM_INSTALL_CONFIG": "installation.yaml",
                "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
                **(environ or {}),
            },
            str(tmp_path),
            CliOptions(
                runner=runner,
                runner_options=words,
                config_file=None if extra is None else "extra.yaml",
                is_file_read=is_file_read,
                pool_size=pool_size,
            ),
        )

    return call

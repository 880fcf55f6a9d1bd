"""The layers of settings, weakest first, and where each of them lies."""

import enum
import os
from collections.abc import Mapping, Sequence

from msgspec import Struct

from dfm.api.errors import SourceLocation

INSTALLATION_FILE = "/etc/dfm/config.yaml"
INSTALLATION_VARIABLE = "DFM_INSTALL_CONFIG"
RUNNER_VARIABLE = "DFM_RUNNER"
PROJECT_FILE = os.path.join(".dfm", "config.yaml")


class Layer(enum.IntEnum):
    """Who says it; a greater one is nearer to the person and wins."""

    DEFAULT = 0
    INSTALLATION = 1
    SITE = 2
    PROJECT = 3
    EXTRA_FILE = 4
    """`--config-file`."""
    ENVIRONMENT = 5
    COMMAND_LINE = 6

    @property
    def shown(self) -> str:
        """The layer's name for a person and in JSON."""
        return self.name.lower().replace("_", "-")


class Origin(Struct, frozen=True):
    """Where a value comes from.

    Attributes:
        text: `--runner-opt`, `DFM_RUNNER`, or the place in a file.
        location: in a file, None for anything else.
    """

    layer: Layer
    text: str
    location: SourceLocation | None = None

    def __str__(self) -> str:
        return f"{self.layer.shown}: {self.text}" if self.location else self.text


DEFAULT_ORIGIN = Origin(Layer.DEFAULT, "default")


class CliOptions(Struct, frozen=True, kw_only=True):
    """What the command line says of settings.

    Attributes:
        runner: `--runner`.
        runner_options: the words of `--runner-opt`, in order, not yet split.
        config_file: `--config-file`: one more file, nearer than the project's; it must exist.
        is_file_read: False for `--no-config`: no file of the site or the project is read. The installation's always is,
            since it holds what must not be evaded.
        pool_size: `--pool-size`: `runner.pool.max_workers`.
    """

    runner: str | None = None
    runner_options: Sequence[str] = ()
    config_file: str | None = None
    is_file_read: bool = True
    pool_size: int | None = None


class LayerFile(Struct, frozen=True):
    """A file that holds a layer.

    Attributes:
        required_by: what names the file, so that it must exist; None where it may be missing.
    """

    layer: Layer
    path: str
    required_by: str | None = None


def layer_files(environ: Mapping[str, str], project_dir: str | None, options: CliOptions) -> list[LayerFile]:
    """Return the files that hold settings, weakest first, whether they exist or not."""
    named = environ.get(INSTALLATION_VARIABLE)
    files = [
        LayerFile(Layer.INSTALLATION, os.path.abspath(named), INSTALLATION_VARIABLE)
        if named
        else LayerFile(Layer.INSTALLATION, INSTALLATION_FILE)
    ]
    if not options.is_file_read:
        return files
    files.append(LayerFile(Layer.SITE, site_file(environ)))
    if project_dir is not None:
        files.append(LayerFile(Layer.PROJECT, os.path.join(os.path.abspath(project_dir), PROJECT_FILE)))
    if options.config_file is not None:
        files.append(LayerFile(Layer.EXTRA_FILE, os.path.abspath(options.config_file), "--config-file"))
    return files


def site_file(environ: Mapping[str, str]) -> str:
    """Return the path of the site's file; a relative XDG_CONFIG_HOME is ignored, as its specification asks."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(base, "dfm", "site.yaml")

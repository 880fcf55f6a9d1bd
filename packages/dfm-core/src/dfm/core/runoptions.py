"""What `dfm run` was asked for, and the command that asks for one task again in the same way."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from dfm.core.config.layers import CliOptions
from dfm.core.reading import FlowOptions
from dfm.core.runfacts import DaemonUse


class RunOptions(Struct, frozen=True, kw_only=True):
    """What `dfm run` was asked for.

    Attributes:
        jobs: `-j`; None where it was not given.
        max_failures: how many failed tasks end the run; None never does.
        rundir: directory for all run directories; None means `rundir` in the current directory.
        daemon: whether a daemon's workers are used.
        base_rundir: that of another run whose results are taken as they are.
    """

    flow: FlowOptions = field(default_factory=FlowOptions)
    tasks: Sequence[str] = ()
    jobs: int | None = None
    rundir: str | None = None
    base_rundir: str | None = None
    is_clean: bool = False
    is_forced: bool = False
    is_dry: bool = False
    max_failures: int | None = 1
    settings: CliOptions = field(default_factory=CliOptions)
    daemon: DaemonUse = DaemonUse.AUTO


class RerunCommand(Struct, frozen=True):
    """Makes the command that runs one task again with the options of this run."""

    program: str
    words: tuple[str, ...]

    def __call__(self, task: str) -> str:
        return shlex.join([self.program, "run", task, *self.words])


def rerun_command(options: RunOptions) -> RerunCommand:
    """Return what makes the command that runs one task of a run again."""
    words = []
    if options.flow.root is not None:
        words += ["--root", options.flow.root]
    if options.rundir is not None:
        words += ["--rundir", options.rundir]
    if options.base_rundir is not None:
        words += ["--base-rundir", options.base_rundir]
    if options.flow.config is not None:
        words += ["-c", options.flow.config]
    for definition in options.flow.definitions:
        words += ["-D", definition]
    for source in options.flow.parameter_files:
        words += ["-P", source]
    for path in options.flow.package_maps:
        words += ["--package-map", path]
    for replacement in options.flow.replacements:
        words += ["--override", replacement]
    words += _settings_words(options.settings)
    words += _DAEMON_WORDS[options.daemon]
    return RerunCommand(_program(), tuple(words))


_DAEMON_WORDS: Mapping[DaemonUse, Sequence[str]] = {
    DaemonUse.AUTO: (),
    DaemonUse.ALWAYS: ("--daemon",),
    DaemonUse.NEVER: ("--no-daemon",),
}


def _settings_words(options: CliOptions) -> list[str]:
    words = [] if options.is_file_read else ["--no-config"]
    if options.config_file is not None:
        words += ["--config-file", options.config_file]
    if options.runner is not None:
        words += ["--runner", options.runner]
    for option in options.runner_options:
        words += ["--runner-opt", option]
    return words


def _program() -> str:
    """Return the word by which this person can call dfm: plain `dfm` where PATH leads here, else as it was called."""
    called = sys.argv[0]
    found = shutil.which("dfm")
    is_on_path = found is not None and os.path.exists(called) and os.path.samefile(found, called)
    return called if os.path.basename(called) == "dfm" and not is_on_path else "dfm"

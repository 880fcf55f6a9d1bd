"""Run one command of a dialect and wait for its answer: no more than a test of a dialect needs."""

import fnmatch
import subprocess
from collections.abc import Mapping

from dfm.api.batch import Command, CommandOutput


def run_command(command: Command, environ: Mapping[str, str]) -> CommandOutput:
    """Run a command as its fields say, in the given environment."""
    try:
        answer = subprocess.run(
            command.argv,
            input=(command.stdin or "").encode(),
            env=_environ(command, environ),
            capture_output=True,
            timeout=command.timeout_seconds,
            check=False,
        )
    except FileNotFoundError:
        return CommandOutput(status=127, stdout="", stderr="")
    except subprocess.TimeoutExpired as late:
        said = [(part or b"").decode(errors="replace") for part in (late.stdout, late.stderr)]
        return CommandOutput(status=137, stdout=said[0], stderr=said[1], is_timed_out=True)
    return CommandOutput(
        status=answer.returncode if answer.returncode >= 0 else 128 - answer.returncode,
        stdout=answer.stdout.decode(errors="replace"),
        stderr=answer.stderr.decode(errors="replace"),
    )


def _environ(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in environ.items()
        if name in command.keep_env or not any(fnmatch.fnmatchcase(name, pattern) for pattern in command.unset_env)
    }
    return {**kept, **command.set_env}

"""Runs what expressions may run: the programs of filters, and the commands of `shell()`.

A program gets the value as JSON on its standard input, and its arguments as environment variables in capitals; what it
prints is the new value, JSON where it can be read as such. A filter for `python` may define `filter(input,
**arguments)` instead, whose result is the value.
It happens only when the turn of the node has come that the expression stands in: never while a flow is read.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from msgspec import Struct

from dfm.core.flow.filters import SHELL
from dfm.core.flow.model import Filter

TIMEOUT_SECONDS = 10.0
"""What the format gives a filter: it holds up the decision about its task, and is no place for work."""
_PYTHON = frozenset({"python", "python3", "pytask"})
_WRAPPER = """
import json, sys
names = {"__name__": "__main__"}
exec(compile(sys.argv[1], "<filter>", "exec"), names)
if callable(names.get("filter")):
    json.dump(names["filter"](json.load(sys.stdin), **json.loads(sys.argv[2])), sys.stdout)
"""


class Programs(Struct, frozen=True):
    """Runs programs for the expressions of one node.

    Attributes:
        environ: of the programs.
        directory: they run in.
    """

    environ: Mapping[str, str]
    directory: str

    def __call__(self, used: Filter, value: object, arguments: Sequence[object]) -> object:
        """Return what the filter's program makes of a value.

        Raises:
            ValueError: it fails or takes too long; the message has what it said.
        """
        if used is SHELL:
            return self._output(used, ["/bin/sh", "-c", str(value)], "", {}).rstrip("\n")
        named = dict(zip(used.parameters, arguments, strict=False))
        assert used.program is not None
        numbered = {f"ARG{number}": argument for number, argument in enumerate(arguments)}
        variables = {name.upper(): _text(argument) for name, argument in {**numbered, **named}.items()}
        if used.shell in _PYTHON:
            argv = [sys.executable, "-c", _WRAPPER, used.program, json.dumps(named)]
        else:
            argv = ["bash" if used.shell == "shell" else used.shell, "-c", used.program]
        return self._answer(used, argv, json.dumps(value), variables)

    def _answer(self, used: Filter, argv: Sequence[str], given: str, variables: Mapping[str, str]) -> object:
        text = self._output(used, argv, given, variables)
        try:
            return json.loads(text)
        except ValueError:
            return text.rstrip("\n")

    def _output(self, used: Filter, argv: Sequence[str], given: str, variables: Mapping[str, str]) -> str:
        try:
            ended = subprocess.run(
                argv,
                input=given,
                capture_output=True,
                text=True,
                errors="replace",
                cwd=self.directory,
                env={**self.environ, **variables},
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"{used.name!r} took longer than {TIMEOUT_SECONDS:g} seconds") from None
        except OSError as error:
            raise ValueError(f"{used.name!r} cannot run {argv[0]}: {error.strerror}") from None
        if ended.returncode != 0:
            said = ended.stderr.strip().rpartition("\n")[2] or f"exit status {ended.returncode}"
            raise ValueError(f"{used.name!r} failed: {said}")
        return ended.stdout


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

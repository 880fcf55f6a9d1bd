"""Task requests as the core makes them, for tests of runners."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from dfm.api.items import Item
from dfm.api.runner import Body, PythonBody, PythonSource, Resources, ShellBody, TaskRequest, log_name

RUN_ID = "conformance"


def plain_environment() -> dict[str, str]:
    """Return a small environment in which scripts find the usual programs, and nothing that steers make or DFM."""
    kept = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C.UTF-8"}


@dataclass(slots=True)
class Workspace:
    """A directory that the test and all hosts of the runner share, and the requests of one run in it.

    Attributes:
        directory: absolute.
    """

    directory: Path
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def root_rundir(self) -> str:
        """Absolute directory that all run directories lie in."""
        return str(self.directory / "rundir")

    def shell(self, text: str, *, shell: str = "bash", **rest: Any) -> TaskRequest:  # noqa: ANN401  (of `request`)
        """Return a request to run a script; see `request` for the rest."""
        return self.request(ShellBody(text, shell), **rest)

    def python(self, text: str, **rest: Any) -> TaskRequest:  # noqa: ANN401  (of `request`)
        """Return a request to run Python code given as text; see `request` for the rest."""
        return self.request(PythonBody(PythonSource.INLINE, text, "", "flow.yaml:1"), **rest)

    def request(
        self,
        body: Body,
        *,
        name: str = "",
        attempt: int = 1,
        params: Mapping[str, Any] | None = None,
        inputs: Sequence[Item] = (),
        memento: object = None,
        env: Mapping[str, str] | None = None,
        changed: bool = True,
        resources: Resources | None = None,
    ) -> TaskRequest:
        """Return a request for a task of this run; its run directory exists.

        All is as in TaskRequest, but for `name`, which makes a new one where it is empty, and for `env`, which comes
        to `plain_environment`.
        """
        task = name or f"p.task{next(self._numbers)}"
        rundir = os.path.join(self.root_rundir, task)
        os.makedirs(rundir, exist_ok=True)
        return TaskRequest(
            run_id=RUN_ID,
            task=task,
            attempt=attempt,
            rundir=rundir,
            srcdir=str(self.directory),
            root_pkgdir=str(self.directory),
            root_rundir=self.root_rundir,
            artefact=task,
            body=body,
            params=params or {},
            inputs=inputs,
            memento=memento,
            env={**plain_environment(), **(env or {})},
            changed=changed,
            resources=resources or Resources(),
        )

    def log(self, request: TaskRequest) -> bytes:
        """Return what the task wrote to stdout and stderr."""
        return (Path(request.rundir) / log_name(request.artefact)).read_bytes()

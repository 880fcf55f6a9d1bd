"""The suite that every runner must pass, on the warm workers of a daemon."""

import os
from collections.abc import Iterator

import pytest

from dfm.core.runfacts import DaemonUse
from dfm.testing.conformance import OpenRunner, RunnerConformance
from dfm.testing.opening import opened
from dfm.testing.project import Project
from dfm.testing.tasks import Workspace


@pytest.fixture(scope="class")
def served(project: Project) -> Iterator[Project]:
    with project.daemon():
        yield project


class TestDaemonOfLocalWorkers(RunnerConformance):
    has_jobserver = True
    carries_questions = True

    @pytest.fixture
    def open_runner(self, workspace: Workspace, served: Project, run_id: str) -> OpenRunner:
        return lambda: opened(
            "local",
            workspace,
            environ=os.environ,
            project=str(served.directory),
            use=DaemonUse.ALWAYS,
            run_id=run_id,
        )

"""The suite that every runner must pass, on the local runner."""

import pytest

from dfm.testing.conformance import OpenRunner, RunnerConformance
from dfm.testing.opening import opened
from dfm.testing.tasks import Workspace


class TestLocalRunner(RunnerConformance):
    has_jobserver = True
    carries_questions = True

    @pytest.fixture
    def open_runner(self, workspace: Workspace) -> OpenRunner:
        return lambda: opened("local", workspace, jobs=2, options=["kill_grace=500ms"])

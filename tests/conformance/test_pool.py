"""The suite that every runner must pass, on a pool of worker processes that the run itself hosts."""

import os

import pytest

from dfm.testing.conformance import OpenRunner, RunnerConformance
from dfm.testing.opening import opened_pool
from dfm.testing.project import Project
from dfm.testing.tasks import Workspace


class TestHostedPool(RunnerConformance):
    has_jobserver = True
    carries_questions = True

    @pytest.fixture
    def open_runner(self, workspace: Workspace, own_places: Project, run_id: str) -> OpenRunner:
        directory = str(own_places.directory)
        return lambda: opened_pool(workspace, environ=os.environ, project=directory, run_id=run_id)

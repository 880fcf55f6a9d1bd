"""Worker processes of this host as jobs: started, seen, found by name, ended, and never taken for another's."""

import os
import select
from pathlib import Path

import pytest

from dfm.api.batch import CancelState, EndCause, JobKey, JobState, JobStatus, Listed, Submitted, WorkerJob
from dfm.api.errors import RunnerError
from dfm.core.pool.command import CommandRunner
from dfm.core.pool.processes import ProcessDialect
from dfm.testing.project import wait_until

DIALECT = ProcessDialect(max_cores=2)


def sleeper(tmp_path: Path, name: str = "dfm-t-1") -> WorkerJob:
    return WorkerJob(
        name=name, slot="s-1", argv=("sleep", "300"), directory=str(tmp_path), log=str(tmp_path / "logs" / "w o.log")
    )


@pytest.fixture
def runner() -> CommandRunner:
    return CommandRunner(dict(os.environ))


async def started(runner: CommandRunner, job: WorkerJob) -> JobKey:
    answer = DIALECT.parse_submit(job, await runner.run(DIALECT.submit(job)))
    assert isinstance(answer, Submitted)
    return JobKey(name=job.name, id=answer.id)


async def asked(runner: CommandRunner, *jobs: JobKey) -> Listed:
    [command] = DIALECT.query("dfm-t-", jobs)
    answer = DIALECT.parse_query(command, await runner.run(command))
    assert isinstance(answer, Listed)
    return answer


async def test_a_worker_lives_until_it_is_told_to_go(runner: CommandRunner, tmp_path: Path) -> None:
    job = await started(runner, sleeper(tmp_path))
    assert job.id is not None
    pidfd = os.pidfd_open(int(job.id))
    try:
        assert await asked(runner, job) == Listed(jobs=(JobStatus(id=job.id, name=job.name, state=JobState.RUNNING),))
        pid = int(job.id)
        wait_until(lambda: os.getsid(pid) == pid, "it to have a session of its own")
        [command] = DIALECT.cancel([job])
        assert DIALECT.parse_cancel(command, await runner.run(command)).states == {job.id: CancelState.STOPPING}
        assert select.select([pidfd], [], [], 10)[0]
    finally:
        os.close(pidfd)
    gone = JobStatus(id=job.id, name=job.name, state=JobState.ENDED, cause=EndCause.FAILED)
    assert await asked(runner, job) == Listed(jobs=(gone,))


async def test_a_worker_is_found_by_its_name_alone(runner: CommandRunner, tmp_path: Path) -> None:
    name = f"dfm-find-{os.getpid()}"
    job = await started(runner, sleeper(tmp_path, name))
    command = DIALECT.find(name)
    try:
        answer = DIALECT.parse_query(command, await runner.run(command))
        assert answer == Listed(jobs=(JobStatus(id=str(job.id), name=name, state=JobState.RUNNING),))
    finally:
        [cancel] = DIALECT.cancel([job])
        await runner.run(cancel)


async def test_another_process_under_the_same_id_is_not_touched(runner: CommandRunner) -> None:
    stranger = JobKey(name="dfm-t-9", id=str(os.getpid()))
    [command] = DIALECT.cancel([stranger])
    assert DIALECT.parse_cancel(command, await runner.run(command)).states == {stranger.id: CancelState.GONE}
    [status] = (await asked(runner, stranger)).jobs
    assert status.state is JobState.ENDED


def test_no_jobs_need_no_command() -> None:
    assert (DIALECT.cancel([]), DIALECT.query("dfm-t-", [])) == ([], [])


def test_a_worker_larger_than_the_host_is_refused(tmp_path: Path) -> None:
    job = WorkerJob(name="n", slot="s", argv=("x",), directory=str(tmp_path), log="/x", cores=3)
    with pytest.raises(RunnerError, match="3 cores"):
        DIALECT.validate(job)

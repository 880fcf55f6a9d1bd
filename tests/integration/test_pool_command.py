"""How a batch system's commands are run: real processes, their streams, their end."""

import os
import select
from pathlib import Path

import pytest
from tests.integration.descriptors import no_descriptors

from dfm.api.batch import Command, CommandOutput
from dfm.core.pool.command import MAX_OUTPUT_BYTES, CommandRunner, command_environment


@pytest.fixture
def runner() -> CommandRunner:
    return CommandRunner(dict(os.environ))


def shell(text: str, *, stdin: str | None = None, seconds: float = 20) -> Command:
    return Command(argv=("/bin/sh", "-c", text), stdin=stdin, timeout_seconds=seconds)


def is_dying(pid: int) -> bool:
    """Whether the process is gone, or is just going: a kill takes a moment to be carried out."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 10)[0])
    finally:
        os.close(pidfd)


async def test_both_streams_and_the_status_are_told(runner: CommandRunner) -> None:
    output = await runner.run(shell("echo out; echo err >&2; exit 3"))
    assert output == CommandOutput(status=3, stdout="out\n", stderr="err\n")


async def test_text_reaches_the_command_through_its_stdin(runner: CommandRunner) -> None:
    script = "#!/bin/sh\n" + "# padding\n" * 20_000
    assert (await runner.run(shell("cat", stdin=script))).stdout == script


async def test_a_command_that_does_not_read_its_stdin_is_no_fault(runner: CommandRunner) -> None:
    assert (await runner.run(shell("exit 0", stdin="x" * 1_000_000))).status == 0


async def test_a_command_that_is_not_there_has_an_answer(runner: CommandRunner) -> None:
    output = await runner.run(Command(argv=("no-such-bsub",)))
    assert (output.status, "no-such-bsub" in output.stderr) == (127, True)


async def test_a_command_that_may_not_be_executed_has_an_answer(runner: CommandRunner, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    assert (await runner.run(Command(argv=(str(tmp_path / "x"),)))).status == 126


async def test_a_command_that_cannot_be_started_for_want_of_descriptors_is_not_taken_for_absent(
    runner: CommandRunner,
) -> None:
    with no_descriptors():
        output = await runner.run(shell("true"))
    assert (output.is_timed_out, output.stderr) == (True, "/bin/sh: Too many open files")
    assert (await runner.run(shell("true"))).status == 0


async def test_a_signal_is_told_as_a_shell_tells_it(runner: CommandRunner) -> None:
    assert (await runner.run(shell("kill -9 $$"))).status == 137


async def test_output_is_bounded(runner: CommandRunner) -> None:
    output = await runner.run(shell(f"head -c {3 * MAX_OUTPUT_BYTES} /dev/zero; echo err >&2"))
    assert (len(output.stdout), output.stderr) == (MAX_OUTPUT_BYTES, "err\n")


async def test_a_command_that_hangs_is_ended_with_all_its_children(runner: CommandRunner, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    output = await runner.run(shell(f"trap '' TERM; sleep 600 & echo $! > {pid}; echo said; wait", seconds=0.3))
    assert (output.is_timed_out, output.stdout) == (True, "said\n")
    assert is_dying(int(pid.read_text()))


async def test_a_grandchild_that_keeps_the_pipes_open_does_not_hold_up_the_answer(runner: CommandRunner) -> None:
    output = await runner.run(shell("sleep 30 & echo $!"))
    os.kill(int(output.stdout), 9)
    assert (output.status, output.is_timed_out) == (0, False)


async def test_files_that_a_command_wants_to_find_are_there(runner: CommandRunner, tmp_path: Path) -> None:
    script = str(tmp_path / "spool" / "job.sh")
    command = Command(argv=(script,), files={script: "#!/bin/sh\necho ran\n"})
    assert (await runner.run(command)).stdout == "ran\n"


async def test_no_descriptor_is_left(runner: CommandRunner) -> None:
    await runner.run(shell("true"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await runner.run(shell("cat; exit 1", stdin="x"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_environment_is_scrubbed_as_the_command_says() -> None:
    command = Command(
        argv=("x",), unset_env=("LSB_*", "BSUB_QUIET"), keep_env=("LSB_DEFAULTPROJECT",), set_env={"LSB_NTRIES": "1"}
    )
    environ = {"LSB_JOBID": "7", "LSB_DEFAULTPROJECT": "p", "BSUB_QUIET": "Y", "PATH": "/bin", "LC_ALL": "de_DE"}
    assert command_environment(command, environ) == {
        "LSB_DEFAULTPROJECT": "p",
        "PATH": "/bin",
        "LC_ALL": "C",
        "LSB_NTRIES": "1",
    }

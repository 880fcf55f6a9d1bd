"""`python -m dfm.core.standalone REQUEST RESULT`: run one request in this process's own tree, and write its result.

Exit status 0 says that there is a result, however the task ended. SIGTERM, SIGINT and SIGHUP stop the task, once more
kills it; then there is no result and the status is 143.
"""

import asyncio
import os
import signal
import sys

from dfm.api.errors import DfmError, ExitCode
from dfm.api.runner import Outcome, TaskRequest, TaskResult
from dfm.core.execute.body import BodyRunner
from dfm.core.execute.process import ProcessTrees
from dfm.core.execute.staging import write_bin_dir
from dfm.core.jobserver.owner import TokenServer
from dfm.core.wire.codec import decode_request, encode_result

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(request_path: str, result_path: str) -> int:
    """Run the request of one file and write its result to the other; return the exit status."""
    with open(request_path, "rb") as file:
        request = decode_request(file.read())
    os.unlink(request_path)
    try:
        result = asyncio.run(_stoppable(request))
    except asyncio.CancelledError:
        return ExitCode.TERMINATED
    temporary = f"{result_path}.tmp"
    with open(temporary, "wb") as file:
        file.write(encode_result(result))
    os.replace(temporary, result_path)
    return ExitCode.OK


async def _stoppable(request: TaskRequest) -> TaskResult:
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await _run(request)
    except DfmError as error:
        return TaskResult(outcome=Outcome.LOST, cause=str(error))


async def _run(request: TaskRequest) -> TaskResult:
    async with (
        TokenServer(max(1, request.resources.cores), request.run_id) as tokens,
        ProcessTrees(run_token=request.run_id) as trees,
    ):
        lease = await tokens.acquire()
        try:
            return await BodyRunner(trees, write_bin_dir(request.root_rundir)).run(request, lease)
        finally:
            tokens.release(lease, is_clean=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

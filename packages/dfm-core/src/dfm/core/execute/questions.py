"""What the body of a running task asks of the run, and the answers: lines of JSON over a pair of sockets.

The executor holds one end and serves it as long as the body lives; the body has the other. A body may ask several
things at once; answers come as they are ready, under the number of their question.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from dfm.api.runner import Answer, Question

MAX_LINE_BYTES = 64 * 1024 * 1024
"""The largest question or answer; what is larger than this belongs into a file."""

Serve = Callable[[Question], Awaitable[Answer]]


class QuestionDesk:
    """The executor's end. Enter it before the body starts, leave it when the body has ended.

    Args:
        serve: answers one question.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._own, self._childs = socket.socketpair()
        self._task: asyncio.Task[None] | None = None

    @property
    def child_fd(self) -> int:
        """The descriptor that the body inherits."""
        return self._childs.fileno()

    async def __aenter__(self) -> Self:
        self._own.setblocking(False)  # noqa: FBT003  (the standard library's signature)
        self._task = asyncio.get_running_loop().create_task(self._serve_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._own.close()
        self._childs.close()

    async def _serve_all(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._own, limit=MAX_LINE_BYTES)
        try:
            async with asyncio.TaskGroup() as group:
                while line := await _line(reader):
                    group.create_task(self._serve_one(line, writer))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        number, answer = None, {}
        try:
            asked = json.loads(line)
            number = asked["id"]
            answer = dict(await self._serve(asked["question"]))
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": f"the question cannot be understood: {error!r}"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps({"id": number, "answer": answer}).encode() + b"\n")
            await writer.drain()


class Questioner:
    """The body's end, for one event loop at a time."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._count = 0
        self._rest = b""

    async def ask(self, question: Mapping[str, Any]) -> Answer:
        """Ask, and wait for the answer.

        Raises:
            ConnectionError: whoever should answer is gone.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._socket.setblocking(False)  # noqa: FBT003  (the standard library's signature)
            self._loop, self._waiting = loop, {}
            loop.add_reader(self._socket.fileno(), self._read)
        self._count += 1
        number = self._count
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting[number] = answer
        try:
            await loop.sock_sendall(self._socket, json.dumps({"id": number, "question": question}).encode() + b"\n")
            return await answer
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Ask no more."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        try:
            content = self._socket.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            content = b""
        if not content:
            self._hang_up()
            return
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            told = json.loads(line)
            waiting = self._waiting.get(told["id"])
            if waiting is not None and not waiting.done():
                waiting.set_result(told["answer"])

    def _hang_up(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._socket.fileno())
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the run does not answer any more"))


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except (ValueError, OSError):
        return b""

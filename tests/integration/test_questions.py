"""What a body asks and what it is answered, over a real pair of sockets."""

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from dfm.core.execute.questions import QuestionDesk, Questioner


async def doubled(question: Mapping[str, Any]) -> dict[str, Any]:
    return {"twice": question["n"] * 2}


async def test_questions_are_answered_as_their_answers_are_ready() -> None:
    first = asyncio.Event()

    async def serve(question: Mapping[str, Any]) -> dict[str, Any]:
        if question["n"] == 1:
            await first.wait()
        else:
            first.set()
        return {"n": question["n"]}

    async with QuestionDesk(serve) as desk:
        questioner = Questioner(os.dup(desk.child_fd))
        answers = await asyncio.gather(*(questioner.ask({"n": n}) for n in (1, 2)))
        questioner.close()
    assert answers == [{"n": 1}, {"n": 2}]


async def test_a_large_question_and_its_answer_arrive_whole() -> None:
    async def echo(question: Mapping[str, Any]) -> dict[str, Any]:
        return dict(question)

    async with QuestionDesk(echo) as desk:
        questioner = Questioner(os.dup(desk.child_fd))
        question = {"text": "x" * 3_000_000}
        assert await questioner.ask(question) == question
        questioner.close()


async def test_what_is_no_question_is_told_and_harms_no_other() -> None:
    async with QuestionDesk(doubled) as desk:
        with socket.socket(fileno=os.dup(desk.child_fd)) as raw:
            raw.setblocking(False)  # noqa: FBT003  (the standard library's signature)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(raw, b"nonsense\n")
            assert b"cannot be understood" in await loop.sock_recv(raw, 4096)
            await loop.sock_sendall(raw, b'{"id": 7, "question": {"n": 3}}\n')
            assert await loop.sock_recv(raw, 4096) == b'{"id": 7, "answer": {"twice": 6}}\n'


async def test_leaving_the_desk_ends_what_nobody_answers_and_tells_who_asks() -> None:
    asked = asyncio.Event()

    async def never(question: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001  (it is not looked at)
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with QuestionDesk(never) as desk:
        questioner = Questioner(os.dup(desk.child_fd))
        waiting = asyncio.ensure_future(questioner.ask({"n": 1}))  # noqa: TID251  (it is awaited below)
        await asked.wait()
    with pytest.raises(ConnectionError):
        await waiting
    questioner.close()

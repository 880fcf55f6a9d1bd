"""The client's end of questions: each is asked of the run once, whoever repeats it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from dfm.core.pool.questions import QuestionsOfTask
from dfm.core.wire.codec import decode_talk, encode_talk
from dfm.core.wire.messages import Answered, Asked


class Desk:
    """A run that answers a question with how many it was asked; `hold` keeps it from answering."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.said: list[tuple[int, int, object]] = []
        self.failed: list[BaseException] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.questions = QuestionsOfTask("t", self._ask, self._say, self.failed.append)

    async def _ask(self, task: str, question: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((task, question["q"]))
        count = len(self.asked)
        await self.may_answer.wait()
        if question["q"] == "bug":
            raise LookupError("bug")
        return {"n": count}

    def _say(self, answered: Answered) -> None:
        self.said.append((answered.attempt, answered.number, decode_talk(answered.answer)["n"]))

    async def take(self, *questions: tuple[int, int, str]) -> None:
        for attempt, number, text in questions:
            self.questions.take(Asked(ticket=1, attempt=attempt, number=number, question=encode_talk({"q": text})))
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_question_that_comes_again_gets_the_same_answer() -> None:
    desk = Desk()
    await desk.take((1, 1, "a"), (1, 1, "a"))
    await desk.take((1, 1, "a"))
    assert desk.asked == [("t", "a")]
    assert desk.said == [(1, 1, 1)] * 3


async def test_the_same_words_under_another_number_are_another_question() -> None:
    desk = Desk()
    await desk.take((1, 1, "a"), (1, 2, "a"))
    assert desk.said == [(1, 1, 1), (1, 2, 2)]


async def test_the_next_attempt_gets_what_the_run_has_done_for_the_lost_one() -> None:
    desk = Desk()
    desk.may_answer.clear()
    await desk.take((1, 1, "a"), (1, 2, "a"), (2, 9, "a"))
    desk.may_answer.set()
    await desk.take((1, 1, "a"), (2, 10, "a"), (2, 11, "b"))
    assert desk.asked == [("t", "a"), ("t", "a"), ("t", "b")]
    assert desk.said == [(2, 9, 1), (2, 10, 2), (2, 11, 3)]


async def test_nothing_is_said_after_the_end() -> None:
    desk = Desk()
    desk.may_answer.clear()
    await desk.take((1, 1, "a"))
    await desk.questions.close()
    await desk.take((1, 2, "b"))
    assert (desk.said, len(desk.asked)) == ([], 1)


async def test_a_run_that_cannot_answer_fails_the_task_with_the_error() -> None:
    desk = Desk()
    await desk.take((1, 1, "bug"))
    with pytest.raises(LookupError, match="bug"):
        raise desk.failed[0]

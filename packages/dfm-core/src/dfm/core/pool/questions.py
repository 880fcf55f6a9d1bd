"""The client's end of questions: what the attempts at one task ask of the run, and what they are answered.

Each question is asked of the run once. One that comes again, because a link broke, gets the same answer. So does the
next attempt at the task that asks the same, in the same order: the tasks that the run has begun or done for the lost
attempt are not begun a second time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from dfm.api.runner import Answer, Ask
from dfm.core.wire.codec import decode_talk, encode_talk
from dfm.core.wire.messages import Answered, Asked


class QuestionsOfTask:
    """The questions of one task, whichever attempt asks them.

    Args:
        task: its name.
        ask: takes a question to the run.
        say: says the answer to the pool.
        fail: is told that the run could not answer: a bug, not a fault of the task.
    """

    def __init__(
        self, task: str, ask: Ask, say: Callable[[Answered], None], fail: Callable[[BaseException], None]
    ) -> None:
        self._task = task
        self._ask = ask
        self._say = say
        self._fail = fail
        self._attempt = 0
        self._places: dict[int, tuple[bytes, int]] = {}
        self._counts: Counter[bytes] = Counter()
        self._answers: dict[tuple[bytes, int], asyncio.Task[Answer]] = {}

    def take(self, asked: Asked) -> None:
        """Take in a question; one of an earlier attempt is dropped."""
        if asked.attempt < self._attempt:
            return
        if asked.attempt > self._attempt:
            self._attempt = asked.attempt
            self._places.clear()
            self._counts.clear()
        self._answer(asked).add_done_callback(lambda answer: self._tell(asked, answer))

    async def close(self) -> None:
        """Answer no more; what the run still looks for is given up."""
        self._attempt = 1 << 63
        answers = list(self._answers.values())
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)

    def _answer(self, asked: Asked) -> "asyncio.Task[Answer]":
        place = self._places.get(asked.number)
        if place is None:
            self._counts[asked.question] += 1
            place = self._places[asked.number] = (asked.question, self._counts[asked.question])
        answer = self._answers.get(place)
        if answer is None:
            asking = self._asking(asked.question)
            answer = self._answers[place] = asyncio.get_running_loop().create_task(asking)
        return answer

    async def _asking(self, question: bytes) -> Answer:
        return await self._ask(self._task, decode_talk(question))

    def _tell(self, asked: Asked, answer: "asyncio.Task[Answer]") -> None:
        if answer.cancelled() or asked.attempt != self._attempt:
            return
        error = answer.exception()
        if error is not None:
            self._fail(error)
            return
        encoded = encode_talk(answer.result())
        self._say(Answered(ticket=asked.ticket, attempt=asked.attempt, number=asked.number, answer=encoded))

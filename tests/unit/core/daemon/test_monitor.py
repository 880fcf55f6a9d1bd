"""What the monitor shows: pure rows, and the screen driven by textual's pilot."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from textual.widgets import DataTable, Static

from dfm.api.errors import RunnerError
from dfm.core.daemon.monitor import Monitor
from dfm.core.daemon.view import (
    Order,
    RecentRow,
    RunningRow,
    WorkerRow,
    clock,
    headline,
    in_order,
    recent_rows,
    running_rows,
    worker_rows,
)

STATUS: dict[str, Any] = {
    "runner": "lsf",
    "project": "/p",
    "epoch": 3,
    "uptime_seconds": 3723.0,
    "tasks_per_second": 12.34,
    "paused": "",
    "excluded_hosts": {},
    "held_tokens": {},
    "jobs": [],
    "workers_count": {"total": 3, "busy": 1, "idle": 1, "pending": 1},
    "tasks_count": {"queued": 5, "running": 2, "done": 7},
    "workers": [
        {"slot": "s-2", "host": "b", "running": [{"task": "p.sim", "seconds": 65.0}]},
        {"slot": "s-1", "host": "a", "running": [{"task": "p.compile", "seconds": 5.0}]},
        {"slot": "s-3", "host": "a", "running": []},
    ],
    "recent": [
        {"task": "p.lint", "outcome": "failed", "seconds": 1.5, "host": "a", "at": "2026-11-29T10:00:00+00:00"},
        {"task": "p.rtl", "outcome": "succeeded", "seconds": 0.25, "host": "b", "at": "2026-11-29T10:01:00+00:00"},
    ],
}
SIM, COMPILE = RunningRow("p.sim", "s-2", "b", "1:05"), RunningRow("p.compile", "s-1", "a", "0:05")


async def status() -> dict[str, Any]:
    return STATUS


def test_the_counts_are_told_in_two_lines() -> None:
    assert headline(STATUS) == (
        "lsf daemon of /p  up 1:02:03  epoch 3\n"
        "workers 3: 1 busy, 1 idle, 1 pending   tasks: 5 queued, 2 running, 7 done   12.3/s"
    )


def test_what_keeps_workers_away_is_told_below_the_counts() -> None:
    full = {"is_connected": False, "reason": "Job slot limit reached;"}
    there = {"is_connected": True, "reason": "not asked yet"}
    kept_away = {
        **STATUS,
        "paused": "nosuch: No such queue.",
        "excluded_hosts": {"node7": "three tasks failed there"},
        "held_tokens": {"xcelium": 2.0},
        "jobs": [{"is_connected": False, "reason": "New job is waiting for scheduling;"}, full, full, there],
    }
    assert headline(kept_away).splitlines()[2:] == [
        "no workers are submitted: nosuch: No such queue.",
        "no work goes to host node7: three tasks failed there",
        "licences held by workers: 2 xcelium",
        "2 of the jobs wait: Job slot limit reached;",
        "1 of the jobs wait: New job is waiting for scheduling;",
    ]


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        (Order.ELAPSED, [SIM, COMPILE]),
        (Order.NAME, [COMPILE, SIM]),
        (Order.WORKER, [COMPILE, SIM]),
        (Order.HOST, [COMPILE, SIM]),
    ],
)
def test_running_tasks_are_sorted_as_asked(order: Order, rows: list[RunningRow]) -> None:
    assert running_rows(STATUS, order) == rows


def test_a_filter_looks_at_task_worker_and_host() -> None:
    assert running_rows(STATUS, Order.NAME, "S-2") == [SIM]


def test_what_ended_last_is_shown_first() -> None:
    assert recent_rows(STATUS) == [
        RecentRow("p.rtl", "succeeded", "0.25", "b", here(1)),
        RecentRow("p.lint", "failed", "1.50", "a", here(0)),
    ]


def here(minute: int) -> str:
    """Return the time of day here of a minute after ten in UTC."""
    return datetime(2026, 11, 29, 10, minute, tzinfo=UTC).astimezone().strftime("%H:%M:%S")


def test_names_are_sorted_as_people_count() -> None:
    names = ["s-1-10", "s-1-2", "p.sim", "s-1-2.3", "10", "9"]
    assert sorted(names, key=in_order) == ["p.sim", "s-1-2", "s-1-2.3", "s-1-10", "9", "10"]


JOBS = [
    {"slot": "s-10", "id": "7", "state": "pending", "host": "", "reason": "full", "is_connected": False},
    {"slot": "s-2", "id": "", "state": "running", "host": "x", "reason": "", "is_connected": True},
]
STAFFED = {
    **STATUS,
    "jobs": [{**job, "since_seconds": 61.0} for job in JOBS],
    "workers": [{**STATUS["workers"][0], "state": "busy"}],
}


def test_each_worker_tells_what_it_runs_and_each_job_without_one_why() -> None:
    there = WorkerRow("s-2", "-", "busy", "b", "1:01", "p.sim")
    coming = WorkerRow("s-10", "7", "pending", "-", "1:01", "full")
    assert worker_rows(STAFFED) == [there, coming]
    assert worker_rows(STAFFED, "full") == [coming]


async def test_a_key_shows_the_workers_and_titles_tell_what_is_shown() -> None:
    async def ask() -> dict[str, Any]:
        return STAFFED

    async with Monitor(ask).run_test() as pilot:
        workers, recent = (pilot.app.query_one(name, DataTable) for name in ("#workers", "#recent"))
        assert (workers.display, recent.display) == (False, True)
        await pilot.press("tab")
        assert (workers.display, recent.display) == (True, False)
        assert workers.get_row_at(0) == ["s-2", "-", "busy", "b", "1:01", "p.sim"]
        await pilot.press("w", "slash", "s", "-", "1", "0", "enter")
        titles = [str(pilot.app.query_one(name, DataTable).border_title) for name in ("#running", "#workers")]
        assert titles == ["0 running, with 's-10', by worker", "1 workers, with 's-10'"]
        await pilot.press("tab")
        assert (workers.display, recent.display) == (False, True)


def test_a_duration_below_an_hour_has_two_parts() -> None:
    assert (clock(59.9), clock(3600)) == ("0:59", "1:00:00")


async def test_keys_sort_and_filter_the_running_tasks() -> None:
    async with Monitor(status).run_test() as pilot:
        table = pilot.app.query_one("#running", DataTable)
        assert table.get_row_at(0) == ["p.sim", "s-2", "b", "1:05"]
        for key in ("n", "w", "h"):
            await pilot.press(key)
            assert table.get_row_at(0) == ["p.compile", "s-1", "a", "0:05"]
            await pilot.press("e")
            assert table.get_row_at(0) == ["p.sim", "s-2", "b", "1:05"]
        await pilot.press("slash", "s", "i", "m", "enter")
        assert [table.get_row_at(row)[0] for row in range(table.row_count)] == ["p.sim"]
        await pilot.press("escape")
        assert table.row_count == 2


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_a_key_detaches(key: str) -> None:
    async with Monitor(status).run_test() as pilot:
        await pilot.press(key)
        await pilot.pause()
        assert not pilot.app.is_running


async def test_an_answer_that_comes_when_the_screen_is_gone_harms_nobody() -> None:
    gone = asyncio.Event()
    asked = asyncio.Event()

    async def ask() -> dict[str, Any]:
        if asked.is_set():
            await gone.wait()
        asked.set()
        return STATUS

    app = Monitor(ask)
    async with app.run_test() as pilot:
        late = asyncio.get_running_loop().create_task(app.refresh_status())
        await pilot.pause()
        await app.query("#head").remove()
        gone.set()
        await late


async def test_the_counts_are_whole_in_a_narrow_terminal() -> None:
    long = {**STATUS, "project": "/a/directory/with/a/long/name" * 4}

    async def ask() -> dict[str, Any]:
        return long

    async with Monitor(ask).run_test(size=(60, 24)) as pilot:
        head = pilot.app.query_one("#head", Static)
        assert head.size.height * head.size.width >= len(headline(long))


async def test_a_daemon_that_does_not_answer_is_told_and_asked_again() -> None:
    answers: list[dict[str, Any]] = []

    async def ask() -> dict[str, Any]:
        if not answers:
            raise RunnerError("the daemon does not answer")
        return answers[0]

    async with Monitor(ask).run_test() as pilot:
        assert isinstance(pilot.app, Monitor)
        assert "does not answer" in str(pilot.app.query_one("#head", Static).render())
        answers.append(STATUS)
        await pilot.app.refresh_status()
        assert "lsf daemon" in str(pilot.app.query_one("#head", Static).render())


async def test_a_table_stays_where_it_was_scrolled_to() -> None:
    tasks = [{"task": f"p.sim{number:03}", "seconds": 1.0} for number in range(100)]
    many = {**STATUS, "workers": [{"slot": "s-1", "host": "a", "running": tasks}]}

    async def ask() -> dict[str, Any]:
        return many

    app = Monitor(ask)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.query_one("#running", DataTable)
        await pilot.press(*["down"] * 50)
        await pilot.pause()
        before = (table.cursor_row, table.scroll_offset)
        await app.refresh_status()
        await pilot.pause()
        assert before[0] == 50
        assert before[1].y > 0
        assert (table.cursor_row, table.scroll_offset) == before

"""What `dfm daemon status` prints."""

from typing import Any

from dfm.core.daemon.view import resumed_lines, status_lines, stop_lines

STATUS: dict[str, Any] = {
    "runner": "lsf",
    "project": "/p",
    "pid": 12,
    "host": "login1",
    "epoch": 3,
    "uptime_seconds": 61.0,
    "paused": "",
    "excluded_hosts": {},
    "held_tokens": {},
    "workers_count": {"total": 3, "busy": 1, "idle": 0, "pending": 1},
    "tasks_count": {"queued": 5, "running": 2, "done": 7},
    "workers": [{"slot": "s-1-1", "state": "busy"}, {"slot": "s-1-2", "state": "silent"}],
    "jobs": [
        {"slot": "s-1-1", "id": "101", "state": "pending", "host": "a", "reason": "not asked yet"},
        {"slot": "s-1-2", "id": "102", "state": "running", "host": "b", "reason": ""},
        {"slot": "s-1-3", "id": "", "state": "ambiguous", "host": "", "reason": "bsub did not answer"},
    ],
}


def test_a_worker_that_is_there_tells_what_it_does_and_a_job_without_one_how_it_stands() -> None:
    assert status_lines(STATUS) == [
        "daemon of /p: pid 12 on login1, up 1:01",
        "runner lsf, epoch 3",
        "workers: 3, 1 busy, 0 idle, 1 pending",
        "tasks: 5 queued, 2 running, 7 done",
        "  s-1-1  job 101  busy  a",
        "  s-1-2  job 102  running  b",
        "  s-1-3  job -  ambiguous  -: bsub did not answer",
    ]


def test_licences_that_workers_hold_are_told() -> None:
    held = {"xcelium": 2.0, "vip": 0.0}
    assert "licences held by workers: 2 xcelium, 0 vip" in status_lines({**STATUS, "held_tokens": held})


def test_a_pause_is_told_with_its_reason() -> None:
    assert "no workers are submitted: nosuch: No such queue." in status_lines(
        {**STATUS, "paused": "nosuch: No such queue."}
    )


def test_a_host_that_gets_no_work_is_told_with_its_reason() -> None:
    excluded = {**STATUS, "excluded_hosts": {"node7": "three tasks failed there"}}
    assert "no work goes to host node7: three tasks failed there" in status_lines(excluded)


def test_who_stops_a_daemon_is_told_of_the_runs_that_are_connected() -> None:
    clients = [{"unfinished": count} for count in (3, 4, 0)]
    told, hint = stop_lines({**STATUS, "clients": clients})
    assert told == (
        "2 runs are connected: 2 running tasks are cut off and begin anew, 5 tasks wait; "
        "they wait a minute for a new daemon and end where none comes"
    )
    assert hint == "  hint: `dfm daemon stop --drain` lets what runs finish first"


def test_a_run_of_which_nothing_runs_is_told_without_the_way_to_let_it_finish() -> None:
    tasks = {"queued": 1, "running": 0, "done": 7}
    assert stop_lines({**STATUS, "clients": [{"unfinished": 1}], "tasks_count": tasks}) == [
        "1 run is connected: 1 task waits; it waits a minute for a new daemon and ends where none comes"
    ]


def test_a_daemon_without_runs_is_stopped_without_a_word() -> None:
    assert stop_lines({**STATUS, "clients": []}) == []
    assert stop_lines({**STATUS, "clients": [{"unfinished": 0}]}) == []


def test_what_a_resumed_daemon_does_again_is_told_with_why_it_did_not() -> None:
    before = {**STATUS, "paused": "nosuch: No such queue.", "excluded_hosts": {"node7": "three tasks failed there"}}
    assert resumed_lines(before) == [
        "workers are submitted again; until now: nosuch: No such queue.",
        "work goes to host node7 again; until now it was avoided: three tasks failed there",
    ]


def test_a_daemon_that_had_nothing_to_resume_says_so() -> None:
    assert resumed_lines(STATUS) == ["nothing kept workers from being submitted"]

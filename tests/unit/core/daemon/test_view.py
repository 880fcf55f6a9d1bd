"""What `dfm daemon status` prints."""

from typing import Any

from dfm.core.daemon.view import status_lines

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

"""Many short tasks through a few pilots on a real SLURM of this machine: submissions, and when the first task began.

    python benchmarks/slurm.py [--tasks N] [--pilots N]

The first start counts from the beginning of `dfm run`, and from its first call of sbatch; beside them stands what SLURM
itself takes from sbatch to the start of a job of one command. What is more is DFM's: its own start before sbatch, then
the worker's, and the task's way.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from dfm.core.pool.batch import time_of_day
from dfm.testing.project import Project, wait_until
from dfm.testing.slurm_cluster import SlurmCluster

TASK_SECONDS = 0.05
MOST_SUBMISSIONS = 8


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=1000, help="how many tasks (default: %(default)s)")
    parser.add_argument("--pilots", type=int, default=4, help="most workers at once (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        with SlurmCluster(directory / "slurm") as cluster:
            delay = statistics.median(scheduler_delay(cluster, directory, number) for number in range(5))
            report(options.tasks, options.pilots, delay, *measured(cluster, directory, options.tasks, options.pilots))
    return 0


def scheduler_delay(cluster: SlurmCluster, directory: Path, number: int) -> float:
    """Return the seconds from sbatch to the start of a job."""
    mark = directory / f"mark{number}"
    began = time_of_day()
    cluster.submit(f"#!/bin/sh\nexec touch {mark}\n", "--mem=10M")
    wait_until(mark.exists, "a job to start")
    return mark.stat().st_mtime - began


def measured(cluster: SlurmCluster, directory: Path, tasks: int, pilots: int) -> tuple[int, float, float, float]:
    """Return the number of submissions, seconds to the first, from it to the first start, and of the whole run."""
    project = Project(directory)
    project.environ.update(cluster.environ)
    sbatch = directory / "sbatch"
    sbatch.write_text(f'#!/bin/sh\n[ -e {directory}/asked ] || touch {directory}/asked\nexec sbatch "$@"\n')
    sbatch.chmod(0o755)
    pool = {"max_workers": pilots, "addresses": ["127.0.0.1"]}
    project.write_settings({"default": "slurm", "pool": pool, "slurm": {"sbatch_cmd": [str(sbatch)]}})
    names = ", ".join(str(number) for number in range(tasks))
    (directory / "flow.yaml").write_text(
        f"""\
package:
  name: p
  tasks:
  - name: many
    strategy: {{matrix: {{n: [{names}]}}}}
    body:
    - {{name: one, shell: sh, run: '[ -e $DFM_SRCDIR/first ] || touch $DFM_SRCDIR/first; sleep {TASK_SECONDS}'}}
""",
        encoding="utf-8",
    )
    known = {job.id for job in cluster.jobs()}
    before = time_of_day()
    answer = project.dfm("run", "many", timeout=600)
    total = time_of_day() - before
    if answer.returncode:
        sys.exit(answer.stdout + answer.stderr)
    submissions = len({job.id for job in cluster.jobs()} - known)
    asked, began = (os.stat(directory / name).st_mtime for name in ("asked", "first"))
    return submissions, asked - before, began - asked, total


def report(tasks: int, pilots: int, delay: float, submissions: int, asked: float, first: float, total: float) -> None:
    """Print the table."""
    ideal = tasks * TASK_SECONDS / pilots
    rows = [
        ("sbatch calls", f"{submissions} (at most {MOST_SUBMISSIONS})"),
        ("SLURM: sbatch to start", f"{delay:.2f} s"),
        ("dfm run to sbatch", f"{asked:.2f} s"),
        ("sbatch to first start", f"{first:.2f} s"),
        ("... less SLURM's part", f"{first - delay:.2f} s"),
        ("whole run", f"{total:.2f} s"),
        ("the tasks' own time", f"{ideal:.2f} s"),
    ]
    print(f"{tasks} tasks of {TASK_SECONDS * 1000:.0f} ms through {pilots} pilots")
    for name, value in rows:
        print(f"| {name:<30} | {value:<16} |")


if __name__ == "__main__":
    sys.exit(main())

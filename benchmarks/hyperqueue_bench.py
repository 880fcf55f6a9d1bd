"""`/bin/true` many times through HyperQueue: server and a worker of two cores in this process. Prints the seconds."""

import sys
import tempfile
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main(count: int) -> None:
    """Submit, wait for all, and print how long that took."""
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalCluster(server_dir=directory, worker_config=WorkerConfig(cores=2)) as cluster,
    ):
        client = cluster.client()
        job = Job()
        for _ in range(count):
            job.program(["/bin/true"])
        started = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        print(time.monotonic() - started)


if __name__ == "__main__":
    main(int(sys.argv[1]))

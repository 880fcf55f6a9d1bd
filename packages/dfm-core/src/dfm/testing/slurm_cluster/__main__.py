"""`python -m dfm.testing.slurm_cluster up|down`: a cluster for a person to try `--runner slurm` on."""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence

from dfm.api.errors import DfmError
from dfm.testing.slurm_cluster.cluster import SlurmCluster


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say; return the exit status."""
    arguments = _parser().parse_args(words)
    try:
        return _up(arguments.directory) if arguments.action == "up" else _down(arguments.directory)
    except DfmError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        sys.stderr.write(f"error: {error}{hint}\n")
        return int(error.exit_code)
    except OSError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dfm.testing.slurm_cluster",
        description="A SLURM cluster of four small nodes on this machine, for trying things out.",
    )
    parser.add_argument("action", choices=("up", "down"), help="start the cluster, or end it and all its jobs")
    parser.add_argument(
        "--directory",
        default=os.path.join(tempfile.gettempdir(), f"dfm-slurm-cluster-{os.getuid()}"),
        help="where configuration and logs are kept (default: %(default)s)",
    )
    return parser


def _up(directory: str) -> int:
    cluster = SlurmCluster(directory)
    if not cluster.is_running:
        cluster.stop()
        try:
            cluster.start()
        except BaseException:
            cluster.stop()
            raise
    for name, value in cluster.environ.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    return 0


def _down(directory: str) -> int:
    SlurmCluster(directory).stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

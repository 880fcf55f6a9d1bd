"""SLURM's commands as they are run: a prefix of the site's, words of ours, and an environment without SLURM's own.

A DFM that runs inside a job inherits SLURM_CPUS_PER_TASK, SBATCH_PARTITION and their like; each would silently change a
submission, and SQUEUE_FORMAT an answer (sbatch(1) and squeue(1), "INPUT ENVIRONMENT VARIABLES"). What says where the
cluster is stays: SLURM_CONF or SLURM_CONF_SERVER. The token SLURM_JWT does not: a job would have it in its environment.
"""

import os
import shlex
from collections.abc import Sequence

from dfm.api.batch import Command, JobKey

SUBMIT_SECONDS = 120.0
QUERY_SECONDS = 60.0
UNSET_ENV = ("SLURM_*", "SBATCH_*", "SRUN_*", "SALLOC_*", "SQUEUE_*", "SCANCEL_*", "SCONTROL_*", "SACCT_*", "SINFO_*")
KEEP_ENV = ("SLURM_CONF", "SLURM_CONF_SERVER")


def command(
    prefix: Sequence[str],
    words: Sequence[str],
    *,
    stdin: str | None = None,
    asked: Sequence[JobKey] = (),
    timeout_seconds: float = QUERY_SECONDS,
) -> Command:
    """Return the command; behind ssh, whose far end joins the words for a shell, each word of ours is quoted."""
    return Command(
        argv=(*prefix, *(map(shlex.quote, words) if _passes_a_shell(prefix) else words)),
        stdin=stdin,
        unset_env=UNSET_ENV,
        keep_env=KEEP_ENV,
        asked=tuple(asked),
        timeout_seconds=timeout_seconds,
    )


def _passes_a_shell(prefix: Sequence[str]) -> bool:
    return bool(prefix) and os.path.basename(prefix[0]) == "ssh"

"""A real SLURM on one machine: a controller, four nodes, a few partitions, started for a test or for a person.

Nothing is shared with a SLURM, a munged or another such cluster on the same machine: each cluster has its own
directory, ports, key and socket, so any number may run at once and tests need no lock. It needs Debian's `slurm-wlm`
and `munge` (or their like elsewhere) installed, and no rights: started by an ordinary user, it runs that user's jobs
only.
"""

from dfm.testing.slurm_cluster.cluster import ClusterJob, SlurmCluster, missing_programs, slurm_version
from dfm.testing.slurm_cluster.commands import run_command
from dfm.testing.slurm_cluster.layout import Shape

__all__ = ["ClusterJob", "Shape", "SlurmCluster", "missing_programs", "run_command", "slurm_version"]

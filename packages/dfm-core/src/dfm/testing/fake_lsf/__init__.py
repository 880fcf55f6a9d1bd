"""A fake LSF: `bsub`, `bjobs`, `bkill` and the others on PATH, a scheduler, simulated hosts, real processes.

`with FakeLsf(tmp_path) as lsf` in a fixture, `python -m dfm.testing.fake_lsf up` on a desk. Nothing of DFM is in it but
the standard library, and it knows LSF from its documentation, not from our parser. All its texts are in `texts`, so
that they can be held against the real commands. Of the commands `client` is the thin one that is started each time,
`mbatchd` the process that answers; `scheduler`, `control` and `supervise` are what happens to jobs.
"""

from dfm.testing.fake_lsf.cluster import FakeLsf, JobRecord
from dfm.testing.fake_lsf.config import ConfigError, Host, Params, Queue
from dfm.testing.fake_lsf.invocations import Invocation
from dfm.testing.fake_lsf.site import FakeLsfError

__all__ = ["ConfigError", "FakeLsf", "FakeLsfError", "Host", "Invocation", "JobRecord", "Params", "Queue"]

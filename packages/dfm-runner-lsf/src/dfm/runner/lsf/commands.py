"""How LSF's commands are started: site prefix, words, environment, time-out.

A prefix may end in a tool's name (`ssh login1 bsub`): the other tools are then reached the same way. Behind ssh a shell
of the other host reads the words once more, so that they are quoted for it.

The environment is scrubbed of what changes the answers (BSUB_QUIET, LSB_BJOBS_FORMAT) and of the job that DFM itself
may run in, or a nested bsub would inherit it; what says which cluster to talk to stays. LSB_NTRIES keeps bsub from
waiting for ever for a busy mbatchd. LSB_BSUB_ERR_RETRY goes, for it makes bsub submit twice.
"""

import enum
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfm.api.batch import Command, JobKey
from dfm.runner.lsf.options import LsfOptions

KEPT = ("LSF_ENVDIR", "LSF_SERVERDIR", "LSF_BINDIR", "LSF_LIBDIR", "LSB_DEFAULTPROJECT", "LSB_DEFAULTQUEUE")
SCRUBBED = (
    "BSUB_*",
    "LSB_BJOBS_*",
    "LSB_BSUB_*",
    "LSB_JOBID",
    "LSB_JOBINDEX*",
    "LSB_JOBNAME",
    "LSB_JOBFILENAME",
    "LSB_JOBPEND",
    "LSB_JOBPGIDS",
    "LSB_JOBPIDS",
    "LSB_JOBRES_*",
    "LSB_JOB_EXECUSER",
    "LSB_JOB_STARTER",
    "LSB_BATCH_JID",
    "LSB_HOSTS",
    "LSB_MCPU_HOSTS",
    "LSB_DJOB_*",
    "LSB_QUEUE",
    "LSB_OUTPUTFILE",
    "LSB_ERRORFILE",
    "LSB_INPUTFILE",
    "LSB_CHKFILENAME",
    "LSB_CHKPNT_*",
    "LSB_RESTART*",
    "LSB_TRAPSIGS",
    "LSB_INTERACTIVE",
    "LSB_EFFECTIVE_RSRCREQ",
    "LSB_MAX_NUM_PROCESSORS",
    "LSB_PROJECT_NAME",
    "LSB_BIND_*",
    "LSB_AFFINITY_HOSTFILE",
    "LSB_EXEC_*",
    "LSB_EXIT_PRE_ABORT",
    "LSB_EXIT_REQUEUE",
    "LSB_RMTASK_*",
    "LSB_ACCT_FILE",
    "LSB_EEXEC_*",
    "LSB_USEPTY",
    "LSB_SHMODE",
    "LSB_XJOBID",
    "LS_EXEC_T",
    "LS_JOBPID",
    "LS_SUBCWD",
)
_REMOTE_SHELLS = ("ssh", "rsh")


class Tool(enum.StrEnum):
    """A command of LSF."""

    BSUB = "bsub"
    BJOBS = "bjobs"
    BKILL = "bkill"
    BHIST = "bhist"
    BQUEUES = "bqueues"
    BPARAMS = "bparams"
    BADMIN = "badmin"
    LSID = "lsid"


@dataclass(frozen=True, slots=True)
class Commands:
    """Makes the commands of a site."""

    options: LsfOptions

    def make(
        self,
        tool: Tool,
        words: Sequence[str],
        *,
        stdin: str | None = None,
        files: Mapping[str, str] | None = None,
        asked: Sequence[JobKey] = (),
    ) -> Command:
        """Return the command of `tool` with `words` after the site's prefix."""
        prefix = self.prefix(tool)
        kept, scrubbed = self._scrubbing()
        return Command(
            argv=(*prefix, *(map(shlex.quote, words) if self.is_read_by_shell(prefix) else words)),
            stdin=stdin,
            set_env={"LC_ALL": "C", "LSB_NTRIES": str(self.options.ntries), **self.options.bsub_environment},
            unset_env=scrubbed,
            keep_env=kept,
            files=files or {},
            asked=tuple(asked),
            timeout_seconds=self._timeout_seconds(tool),
        )

    def prefix(self, tool: Tool) -> tuple[str, ...]:
        """Return the words that start `tool`."""
        options = self.options
        chosen = {
            Tool.BSUB: options.bsub_cmd,
            Tool.BJOBS: options.bjobs_cmd,
            Tool.BKILL: options.bkill_cmd,
            Tool.BHIST: options.bhist_cmd,
        }.get(tool, ())
        return chosen or _sibling(options.bsub_cmd, tool)

    def is_read_by_shell(self, prefix: Sequence[str]) -> bool:
        """Whether a shell reads the words after the prefix, as that of the other host does behind ssh."""
        if self.options.remote_shell == "auto":
            return posixpath.basename(prefix[0]) in _REMOTE_SHELLS
        return self.options.remote_shell == "always"

    def _scrubbing(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what is kept and what is removed; a project or queue of ours makes that of the environment moot."""
        moot = tuple(
            name
            for name, ours in (
                ("LSB_DEFAULTPROJECT", self.options.project),
                ("LSB_DEFAULTQUEUE", self.options.queue),
            )
            if ours is not None
        )
        return tuple(name for name in KEPT if name not in moot), (*SCRUBBED, *moot)

    def _timeout_seconds(self, tool: Tool) -> float:
        options = self.options
        return {
            Tool.BSUB: options.submit_timeout,
            Tool.BKILL: options.cancel_timeout,
            Tool.BHIST: options.history_timeout,
        }.get(tool, options.query_timeout)


def _sibling(prefix: Sequence[str], tool: Tool) -> tuple[str, ...]:
    """Return the prefix with `tool` in place of bsub; a wrapper of another name has no siblings, PATH has them."""
    directory, last = posixpath.split(prefix[-1])
    if last != Tool.BSUB:
        return (tool.value,)
    return (*prefix[:-1], posixpath.join(directory, tool.value))

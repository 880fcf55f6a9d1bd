"""What an answer of LSF without a job means: permanent, transient, or ambiguous.

bsub ends with 255 whatever went wrong, so that the text decides. The texts are those of LSF 10.1, of its open
relatives, and of sites' wrappers around it. A site's own patterns come first.
"""

import re
from collections.abc import Sequence

from dfm.api.batch import CommandOutput, FailureKind, SubmitFailed
from dfm.runner.lsf.options import LsfOptions

MAX_TEXT = 2000
"""Longest text shown of an answer, in characters."""
NOT_FOUND = 127
NOT_EXECUTABLE = 126
_FIRST_SIGNAL_STATUS = 129
_LAST_SIGNAL_STATUS = 192

PERMANENT = re.compile(
    r"No such queue"
    r"|User cannot use the queue"
    r"|Bad resource requirement syntax"
    r"|Error near \""
    r"|Error in \w+ section"
    r"|cannot be used in the resource requirement section"
    r"|Too many processors requested"
    r"|Cannot exceed queue's hard limit"
    r"|: Bad \w+ specification"
    r"|Service class does not exist"
    r"|Project name must be specified"
    r"|Request aborted by esub"
    r"|RESRSV_LIMIT"
    r"|^Usage: *bsub"
    r"|command not found",
    re.MULTILINE,
)
TRANSIENT = re.compile(
    r"Pending job threshold reached"
    r"|Request from non-LSF host rejected"
    r"|Failed in an LSF library call"
    r"|Communication timeout"
    r"|Batch daemon cannot fork"
    r"|Cannot connect to LSF"
    r"|LSF is down\. Please wait"
    r"|LSF is processing your request"
    r"|job query limit exceeded"
    r"|concurrent query limit exceeded"
    r"|daemon not responding"
    r"|Connection refused by server"
    r"|^ssh: ",
    re.MULTILINE,
)
_REFUSED = re.compile(r"Job not submitted")


def is_no_answer(text: str) -> bool:
    """Whether the text tells that LSF could not answer."""
    return TRANSIENT.search(text) is not None


def failed_submit(output: CommandOutput, options: LsfOptions) -> SubmitFailed:
    """Return what became of a submission whose answer names no job.

    A bsub that was killed may have submitted, as may one that ended well without a word, or one whose transport broke
    (status 255, no text). Where bsub itself says "Job not submitted", there is no job.
    """
    text = words_of(output)
    if output.is_timed_out:
        return SubmitFailed(kind=FailureKind.AMBIGUOUS, text=_with(text, "bsub gave no answer in time"))
    if output.status == 0:
        return SubmitFailed(kind=FailureKind.AMBIGUOUS, text=_with(text, "bsub ended well and named no job"))
    if output.status in (NOT_FOUND, NOT_EXECUTABLE):
        return SubmitFailed(kind=FailureKind.PERMANENT, text=_missing_tool(output.status, text, options))
    return SubmitFailed(kind=_kind(text, output.status, options), text=text or f"bsub: exit status {output.status}")


def words_of(output: CommandOutput) -> str:
    """Return the tool's own words, stderr first, shortened, with nothing in them that a terminal would obey."""
    said = "\n".join(part for part in (output.stderr.strip(), output.stdout.strip()) if part)
    text = "".join(character if character.isprintable() or character in "\n\t" else "?" for character in said)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " ..."


def _kind(text: str, status: int, options: LsfOptions) -> FailureKind:
    if _matches(options.permanent_patterns, text):
        return FailureKind.PERMANENT
    if _matches(options.transient_patterns, text):
        return FailureKind.TRANSIENT
    if PERMANENT.search(text):
        return FailureKind.PERMANENT
    if is_no_answer(text):
        return FailureKind.TRANSIENT
    if _FIRST_SIGNAL_STATUS <= status <= _LAST_SIGNAL_STATUS:
        return FailureKind.AMBIGUOUS
    return FailureKind.PERMANENT if _REFUSED.search(text) else FailureKind.AMBIGUOUS


def _matches(patterns: Sequence[str], text: str) -> bool:
    return any(re.search(pattern, text, re.MULTILINE) for pattern in patterns)


def _missing_tool(status: int, text: str, options: LsfOptions) -> str:
    said = f": {text}" if text else ""
    return (
        f"{' '.join(options.bsub_cmd)} cannot be started (exit status {status}){said}; "
        "put LSF's commands on PATH (source profile.lsf) or set runner.lsf.bsub_cmd"
    )


def _with(text: str, what: str) -> str:
    return f"{what}: {text}" if text else what

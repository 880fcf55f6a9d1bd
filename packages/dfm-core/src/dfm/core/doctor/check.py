"""What a check is, and how it is run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dfm.api.batch import Finding, Standing
from dfm.api.errors import DfmError, ExitCode
from dfm.core.config.faults import ConfigInvalid


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one part of the installation.

    Attributes:
        exit_code: of `dfm doctor` where this is the first check that finds an error.
    """

    name: str
    look: Callable[[], Sequence[Finding]]
    exit_code: ExitCode = ExitCode.INFRASTRUCTURE


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found."""

    name: str
    findings: Sequence[Finding]
    seconds: float
    exit_code: ExitCode

    @property
    def is_well(self) -> bool:
        """Whether nothing is an error."""
        return all(finding.standing is not Standing.ERROR for finding in self.findings)


_RANK = [Standing.SKIPPED, Standing.OK, Standing.WARNING, Standing.ERROR]


def worst(findings: Sequence[Finding]) -> Standing:
    """Return the worst standing; skipped where there is nothing."""
    return max((finding.standing for finding in findings), key=_RANK.index, default=Standing.SKIPPED)


def run_check(check: Check) -> Checked:
    """Run a check; a person's mistake that it trips over is a finding."""
    started = time.monotonic()
    try:
        findings = check.look()
    except DfmError as error:
        findings = findings_of(error)
    return Checked(check.name, findings, time.monotonic() - started, check.exit_code)


def findings_of(error: DfmError) -> list[Finding]:
    """Return an error as findings: one for each fault of the settings, where it tells of several."""
    return [finding_of(fault) for fault in (error.faults if isinstance(error, ConfigInvalid) else (error,))]


def finding_of(error: DfmError, standing: Standing = Standing.ERROR) -> Finding:
    """Return an error as a finding."""
    return Finding(standing=standing, text=str(error), hint=error.hint or "")


def well(text: str) -> Finding:
    """Return a finding that there is nothing to mend."""
    return Finding(standing=Standing.OK, text=text)


def warning(text: str, hint: str) -> Finding:
    """Return a finding that harms some."""
    return Finding(standing=Standing.WARNING, text=text, hint=hint)


def fault(text: str, hint: str) -> Finding:
    """Return a finding that keeps DFM from working."""
    return Finding(standing=Standing.ERROR, text=text, hint=hint)


def skipped(text: str) -> Finding:
    """Return a finding that this was not looked at, and why."""
    return Finding(standing=Standing.SKIPPED, text=text)

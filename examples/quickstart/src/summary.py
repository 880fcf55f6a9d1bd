"""The summary of a regression, as a Python task."""

import json
from pathlib import Path

from dfm.api import FileSet, TaskContext, TaskInput, TaskOutput


def summary(ctxt: TaskContext, input: TaskInput) -> TaskOutput:
    """Collect the reports of all seeds into one table."""
    reports = sorted(
        (json.loads(Path(item.basedir, name).read_text()) for item in input.inputs for name in item.files),
        key=lambda report: report["seed"],
    )
    lines = [f"{'seed':>6} {'words':>6} {'most':>5} {'full':>5}"]
    lines += [f"{r['seed']:>6} {r['words']:>6} {r['most']:>5} {r['full']:>5}" for r in reports]
    lines.append(f"{len(reports)} seeds passed, {sum(r['words'] for r in reports)} words went through")
    path = ctxt.create("summary.txt", "\n".join(lines) + "\n")
    ctxt.info(f"{lines[-1]}; table: {path}")
    return TaskOutput(output=[FileSet("summary", ".", ["summary.txt"])])

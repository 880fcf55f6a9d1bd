"""The benchmarks run; what they find on such sizes means nothing and is not looked at."""

import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench.py"


def test_every_row_runs_and_writes_the_table_but_not_over_what_a_person_wrote(tmp_path: Path) -> None:
    table = tmp_path / "RESULTS.md"
    table.write_text("# old\n\n## Why\n\nkept\n")
    environ = {**os.environ, "DFM_ACCESS_DIR": str(tmp_path / "access"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ["--size", "smoke", "--write", str(table), "--on", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(BENCH), *words], cwd=tmp_path, env=environ, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    text = table.read_text()
    assert text.endswith("## Why\n\nkept\n")
    assert "## Targets" in text
    assert "# old" not in text

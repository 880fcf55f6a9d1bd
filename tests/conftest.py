"""What every test may use: the installed `dfm` as a black box."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")  # how long an example takes says something of the machine, not of the code

Answer = subprocess.CompletedProcess[str]
Dfm = Callable[..., Answer]
SCRIPTS = Path(sys.executable).parent
EXAMPLES = Path(__file__).parent.parent / "examples"


def clean_environ() -> dict[str, str]:
    """Return the environment without what steers dfm, make, or a CI system."""
    steering = ("DFM_", "DV_FLOW_", "MAKE", "MFLAGS", "GNUMAKEFLAGS", "CI", "GITHUB_", "NO_COLOR", "FORCE_COLOR")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    path = f"{SCRIPTS}:{environ.get('PATH', os.defpath)}"  # where an activated environment has its programs
    return environ | {"PYTHON": sys.executable, "DFM_FLOW_CACHE": "off", "PATH": path}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return clean_environ() | {
        "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
        "DFM_FLOW_CACHE": f"{tmp_path}-flows",
    }


@pytest.fixture
def dfm(tmp_path: Path, environ: dict[str, str]) -> Dfm:
    """Call `dfm` with words in the test's own directory."""

    def call(*words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 60) -> Answer:
        return subprocess.run(
            [str(SCRIPTS / "dfm"), *words],
            cwd=cwd or tmp_path,
            env={**environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return call


@pytest.fixture
def flow(tmp_path: Path) -> Callable[[str], Path]:
    """Write a flow.yaml into the test's own directory."""

    def write(text: str) -> Path:
        path = tmp_path / "flow.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write

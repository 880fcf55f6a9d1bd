"""Flows written into a temporary directory and loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dfm.core.flow.diagnostics import Diagnostic, FlowInvalid
from dfm.core.flow.load import load_flow
from dfm.core.flow.model import Flow
from dfm.core.flow.overrides import parse_overrides
from dfm.core.std import FLOW_FILE

Load = Callable[..., Flow]
Faults = Callable[..., list[Diagnostic]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str, *definitions: str, config: str | None = None, **files: str) -> Flow:
        path = tmp_path / "flow.yaml"
        path.write_text(text, encoding="utf-8")
        for name, content in files.items():
            other = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml")
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_text(content, encoding="utf-8")
        return load_flow(
            str(path),
            environ={"HOME": "/home/u"},
            overrides=parse_overrides(definitions, ()),
            config=config,
            standard_library=FLOW_FILE,
        )

    return loaded


@pytest.fixture
def faults(load: Load) -> Faults:
    def found(text: str, *definitions: str, **files: str) -> list[Diagnostic]:
        with pytest.raises(FlowInvalid) as caught:
            load(text, *definitions, **files)
        return list(caught.value.diagnostics)

    return found

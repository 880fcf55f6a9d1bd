"""Flows written into a temporary directory and loaded; whatever loads must be valid by the JSON Schema too."""

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from dfm.core.flow.diagnostics import Diagnostic, Diagnostics, FlowInvalid
from dfm.core.flow.json_schema import flow_schema
from dfm.core.flow.load import load_flow
from dfm.core.flow.locate import read_flow_file
from dfm.core.flow.model import Flow
from dfm.core.flow.overrides import parse_overrides
from dfm.core.flow.source import to_plain
from dfm.core.std import FLOW_FILE

VALIDATOR = Draft202012Validator(flow_schema())
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
        found = load_flow(
            str(path),
            environ={"HOME": "/home/u"},
            overrides=parse_overrides(definitions, ()),
            config=config,
            standard_library=FLOW_FILE,
        )
        for file in found.files:
            node = read_flow_file(file, Diagnostics())
            assert node is not None
            assert [error.message for error in VALIDATOR.iter_errors(to_plain(node))] == []
        return found

    return loaded


@pytest.fixture
def faults(load: Load) -> Faults:
    def found(text: str, *definitions: str, **files: str) -> list[Diagnostic]:
        with pytest.raises(FlowInvalid) as caught:
            load(text, *definitions, **files)
        return list(caught.value.diagnostics)

    return found

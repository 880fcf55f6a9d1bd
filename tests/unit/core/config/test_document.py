"""The reference of all settings is made of the declarations; run as a program, this file writes it."""

import re
import sys
from pathlib import Path

from dfm.core.config.document import file_schema, reference_page
from dfm.core.config.load import check_file, declared_options
from dfm.core.local.plugin import dfm_runner as local
from dfm.runner.lsf.plugin import dfm_runner as lsf
from dfm.runner.slurm.plugin import dfm_runner as slurm

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "settings.md"


def page() -> str:
    return reference_page({plugin.name: declared_options(plugin) for plugin in (local(), lsf(), slurm())})


def test_the_reference_of_settings_is_what_the_code_declares() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"run {Path(__file__).name} to write it anew"


def test_the_schema_of_a_runner_that_is_not_installed_is_open() -> None:
    schema = file_schema({"local": declared_options(local()), "lsf": None})
    runner = schema["properties"]["runner"]["properties"]  # type: ignore[index]  # JSON
    assert runner["lsf"] == {"type": "object"}
    assert runner["local"]["properties"]["kill_grace"]["default"] == "3s"
    assert runner["pool"]["properties"]["walltime"]["type"] == ["string", "null"]
    assert (runner["pool"]["properties"]["port"]["minimum"], runner["pool"]["properties"]["port"]["maximum"]) == (
        0,
        65535,
    )
    assert runner["pool"]["additionalProperties"] is False


def test_the_files_in_the_guide_are_valid(tmp_path: Path) -> None:
    text = (PAGE.parents[1] / "guides" / "configuration.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yaml").write_text(block, encoding="utf-8")
    assert len(blocks) == 2
    assert [check_file(str(tmp_path / f"{number}.yaml"), [local()]) for number in range(2)] == [[], []]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)

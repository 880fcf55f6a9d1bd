"""The guides say what the code has, no more and no less."""

import dataclasses
import re
from pathlib import Path

from dfm.runner.slurm.options import SlurmOptions

GUIDES = Path(__file__).parents[3] / "docs" / "guides"


def test_the_users_guide_names_each_option_and_no_other() -> None:
    text = (GUIDES / "slurm-user.md").read_text(encoding="utf-8")
    table = text.partition("| option | meaning |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    assert named == {field.name for field in dataclasses.fields(SlurmOptions)} | {"queue"}

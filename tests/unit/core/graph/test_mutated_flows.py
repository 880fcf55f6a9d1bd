"""Flows that went through a shredder: whatever comes of them, it is a graph or a list of faults."""

import contextlib
import random
import re
from pathlib import Path

import pytest

from dfm.api.errors import DfmError
from dfm.core.flow.load import load_flow
from dfm.core.graph.build import Surroundings, build_graph
from dfm.core.graph.select import Selection
from dfm.core.std import FLOW_FILE

EXAMPLES = Path(__file__).parents[4] / "examples"
FLOWS = [path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*/flow.yaml"))]
WORDS = [
    "name",
    "uses",
    "needs",
    "with",
    "run",
    "body",
    "tasks",
    "[]",
    "{}",
    "null",
    "1",
    "std.Message",
    "${{ a }}",
    "${{",
    "- ",
    "  ",
    "\n",
    ":",
    "..",
    "&x",
    "*x",
    "<<: *x",
    "'",
    "strategy",
    "matrix",
    "type",
    "iff",
    "consumes",
    "feeds",
]


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(text))
        match chance.randrange(4):
            case 0:
                text = text[:place] + text[place + chance.randrange(1, 30) :]
            case 1:
                text = text[:place] + chance.choice(WORDS) + text[place:]
            case 2:
                lines = text.split("\n")
                first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[first], lines[second] = lines[second], lines[first]
                text = "\n".join(lines)
            case _:
                words = list(re.finditer(r"[A-Za-z_.]+", text))
                word = chance.choice(words)
                text = text[: word.start()] + chance.choice(WORDS) + text[word.end() :]
    return text


@pytest.mark.parametrize("seed", range(8))
def test_a_shredded_flow_is_a_graph_or_a_list_of_faults(tmp_path: Path, seed: int) -> None:
    assert FLOWS
    chance = random.Random(seed)
    path = tmp_path / "flow.yaml"
    for _ in range(60):
        path.write_text(mutated(chance.choice(FLOWS), chance), encoding="utf-8")
        with contextlib.suppress(DfmError):
            flow = load_flow(str(path), environ={}, standard_library=FLOW_FILE)
            targets = [Selection(name) for name in flow.root.tasks]
            build_graph(flow, targets, Surroundings(environ={}, root_rundir=str(tmp_path)), {})

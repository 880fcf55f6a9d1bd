"""The testbench: random traffic against a reference queue."""

import argparse
import json
import random
import sys
from collections import deque

import config
from fifo import Fifo

CYCLES = 2000


def simulate(seed: int) -> dict[str, int]:
    """Run one seed; return what was seen, with `errors` counted."""
    chance = random.Random(seed)
    eagerness = chance.uniform(0.3, 0.6)
    design, reference = Fifo(config.DEPTH, bug=config.BUG), deque()
    seen = {"seed": seed, "words": 0, "most": 0, "full": 0, "errors": 0}
    for _ in range(CYCLES):
        push = chance.randrange(256) if chance.random() < eagerness else None
        pop = chance.random() < 0.5
        expected = reference.popleft() if pop and reference else None
        was_full = design.full
        word = design.clock(push=push, pop=pop)
        if push is not None and (not was_full or expected is not None):
            reference.append(push)
        seen["words"] += word is not None
        seen["errors"] += word != expected
        seen["most"] = max(seen["most"], design.count)
        seen["full"] += was_full
    return seen


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--report", required=True)
    arguments = parser.parse_args()
    seen = simulate(arguments.seed)
    print(f"seed {seen['seed']}: {seen['words']} words, {seen['errors']} errors")
    with open(arguments.report, "w", encoding="utf-8") as file:
        json.dump(seen, file)
    return 1 if seen["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())

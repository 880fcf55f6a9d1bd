"""The pool's own code under virtual time, with a transport that fails, a scheduler that lies, and processes that die."""

import pytest
from tests.simulation.mutants import MUTANTS
from tests.simulation.run import simulate
from tests.simulation.world import FAULTS

SEEDS = 2000
BLOCK = 100


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_no_promise_is_broken(first: int) -> None:
    for seed in range(first, first + BLOCK):
        outcome = simulate(seed)
        log = "\n".join(outcome.tail)
        assert outcome.violation == "", f"seed {seed}, faults {sorted(outcome.faults)}: {outcome.violation}\n{log}"


@pytest.mark.parametrize("seed", range(10))
def test_no_promise_is_broken_with_all_faults_at_once(seed: int) -> None:
    assert simulate(seed, faults=frozenset(FAULTS)).violation == ""


@pytest.mark.parametrize("seed", [1, 12, 236])
def test_a_seed_tells_the_same_story_twice(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)
    assert (first.digest, first.events) == (second.digest, second.events)
    assert simulate(seed + 1).digest != first.digest


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_fault_is_found(name: str) -> None:
    assert any(simulate(seed, MUTANTS[name]).violation for seed in range(300))

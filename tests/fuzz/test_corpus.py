"""What fuzzing once found stays mended, and no parser answers a seeded mutation with an untyped error."""

import json
import time
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutations import several
from tests.fuzz.targets import TARGETS, verdict

CORPUS = Path(__file__).parent / "corpus"
EXPECTED: dict[str, str] = json.loads((CORPUS / "expected.json").read_text())
"""File -> what is right about it: `value`, or the error and its reason."""


@pytest.mark.parametrize("name", EXPECTED)
def test_a_finding_stays_mended(name: str) -> None:
    """It gives a value or an error with a type, in less than two seconds of CPU time."""
    began = time.process_time()
    assert verdict(TARGETS[name.partition("/")[0]], (CORPUS / name).read_bytes()) == EXPECTED[name]
    assert time.process_time() - began < 2


def test_every_file_of_the_corpus_has_its_verdict() -> None:
    files = {str(file.relative_to(CORPUS)) for file in CORPUS.glob("*/*")}
    assert files == set(EXPECTED)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read_and_mutations_give_values_or_typed_errors(name: str) -> None:
    """`make fuzz` runs many more, guided by coverage."""
    target, chance = TARGETS[name], Random(7)
    seeds = target.seeds()
    assert "value" in {verdict(target, seed) for seed in seeds}
    for _ in range(60):
        verdict(target, several(target.mutation, chance.choice(seeds), chance))

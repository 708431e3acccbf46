"""Every mutant still fits the product, and changes it."""

import ast

import pytest
from tests.mutants.explained import EXPLAINED, REPLACED
from tests.mutants.mutants import ROOT, Mutant, mutants

ALL = mutants()


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_a_mutant_fits(mutant: Mutant) -> None:
    """Its text is in the product exactly once, and what it makes of it can be parsed."""
    text = (ROOT / mutant.path).read_text()
    changed = mutant.applied(text)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))


def test_there_are_enough_and_only_mutants_that_exist_are_explained() -> None:
    """At least sixty."""
    assert len(ALL) >= 60
    names = {mutant.name for mutant in ALL}
    assert set(EXPLAINED) <= names
    assert {other for _, other in REPLACED.values()} <= names
    assert not names & set(REPLACED)

"""Each fault that the simulation has found is found again when its fix is reverted."""

import pytest
from tests.mutants.__main__ import tried
from tests.mutants.mutants import mutants
from tests.simulation.kept import KEPT, SCHEDULES_KEPT, Finding

MUTANTS = {mutant.name: mutant for mutant in mutants()}


@pytest.mark.parametrize("finding", KEPT, ids=lambda finding: finding.scene)
def test_a_reverted_fix_is_found_again(finding: Finding) -> None:
    """By the schedules of its scene that every run begins with."""
    outcome = tried(MUTANTS[finding.mutant], SCHEDULES_KEPT, finding.scene)
    assert outcome.seed is not None, f"{finding.scene} finds no more: {finding.found}"

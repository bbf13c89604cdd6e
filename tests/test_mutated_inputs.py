"""Damaged inputs of every kind that is read end in a value or in a line: no traceback, no hang, no absurd memory."""

from __future__ import annotations

from pathlib import Path

import mutated_inputs
import pytest


@pytest.mark.parametrize(
    "seeds", [range(90), pytest.param(range(90, 2090), marks=pytest.mark.slow)], ids=["some", "2000"]
)
def test_damaged_inputs_of_every_kind_end_in_a_value_or_a_line(seeds: range, tmp_path: Path) -> None:
    counts, faults = mutated_inputs.faults_of(tmp_path / "inputs", seeds)
    assert not faults, "\n\n".join(faults)
    # The damage is neither without effect nor such that everything is refused.
    assert min(counts["read"], counts["refused"]) > len(seeds) // 5


@pytest.mark.slow
def test_damaged_inputs_given_to_commands_end_with_a_status_and_a_line(tmp_path: Path) -> None:
    counts, faults = mutated_inputs.faults_of(tmp_path / "inputs", range(200), mutated_inputs.COMMAND)
    assert not faults, "\n\n".join(faults)
    assert min(counts["read"], counts["refused"]) > 20

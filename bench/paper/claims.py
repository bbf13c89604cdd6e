"""Every finding of the paper in one line: holds, does not hold or not tested, with figures and the reason.

The figures are those of a comparison's record (`bench.paper.record`) and of the experiments and benchmarks whose records lie
under `bench/results/`. Nothing is trained or measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .findings import (
    BY_RATES,
    FAILS,
    FINDINGS,
    HOLDS,
    NOT_TESTED,
    WORDS,
    Finding,
    in_words,
    judged_by_rates,
    untested,
)
from .outlook import BY_RECORDS, STORED, judged_by_records, records


def claims(record: Mapping[str, Any], stored: Path = STORED) -> list[Finding]:
    """Judge all that the paper found, in the order of `claims.toml`.

    Args:
        record: of a comparison.
        stored: folder with the records of experiments and benchmarks; what is missing there is not tested.
    """
    read = records(record, stored)
    found = {name: judged_by_rates(record["means"], name) for name in BY_RATES}
    # Their figures were taken before the means of the record were rounded.
    for name, kept in zip(FINDINGS, record["findings"], strict=True):
        found[name] = Finding(**kept | {"reason": found[name].reason})
    found |= {name: judged_by_records(name, read) for name in BY_RECORDS}
    return [found.get(name) or untested(name, reason=in_words(name, "reason")) for name in WORDS]


def count_verdicts(found: Sequence[Finding]) -> str:
    """Say how many findings hold, do not, and were not tested."""
    number = {
        verdict: sum(item.verdict == verdict for item in found) for verdict in (HOLDS, FAILS, NOT_TESTED)
    }
    return f"Of {len(found)} findings {number[HOLDS]} hold here, {number[FAILS]} do not and {number[NOT_TESTED]} are not tested."

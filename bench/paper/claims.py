"""Does it reproduce? What the paper claims, what was found here, and whether that holds.

`claims.toml` has every claim: its words, and the rule by which it holds. The figures that both name are those of
`bench.paper.claim_figures`. Nothing is trained or measured here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, UndefinedError

from sfxjax.toml_files import read_toml

from .claim_figures import Records, figures_of, published_figures, records

HOLDS, FAILS, NOT_TESTED = "holds", "does not hold", "not tested"
CLAIMS = read_toml(Path(__file__).with_suffix(".toml"))
STORED = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        claim: what is claimed.
        paper: the paper's figures for it.
        ours: what was measured, in words and figures; empty if not run.
        verdict: HOLDS, FAILS or NOT_TESTED.
        reason: why, as far as it is known; empty where nothing is to be added.
    """

    claim: str
    paper: str
    ours: str
    verdict: str
    reason: str = ""


def claims(record: Mapping[str, Any], stored: Path = STORED) -> list[Finding]:
    """Judge all that the paper found, in the order of `claims.toml`.

    Args:
        record: of a comparison.
        stored: folder with the records of experiments and benchmarks; what is missing there is not tested.
    """
    read = records(record, stored)
    return [judged(name, read) for name in CLAIMS]


def judged(name: str, read: Records) -> Finding:
    """Judge a claim by its rule; it is not tested where it has none, or where a figure is missing."""
    claim = CLAIMS[name]
    published = published_figures(claim)
    figures = published
    try:
        figures = published | figures_of(claim, read)
        holds = _rule(claim["holds"], figures)
        ours = claim["ours"].format_map(figures)
    except (KeyError, UndefinedError):
        verdict, ours, reason = NOT_TESTED, "", "untested"
    else:
        verdict, reason = HOLDS if holds else FAILS, "reason"
    # Without words of its own the paper's figures stand in those of ours.
    paper = _worded(claim.get("paper", claim.get("ours", "")), figures | published)
    return Finding(claim["claim"], paper, ours, verdict, _worded(claim.get(reason, ""), figures))


def _rule(rule: str, figures: Mapping[str, Any]) -> bool:
    environment = Environment(undefined=StrictUndefined)
    return bool(environment.compile_expression(rule, undefined_to_none=False)(figures))


def _worded(words: str, figures: Mapping[str, Any]) -> str:
    """Fill figures into words; where one is missing, there is nothing to say."""
    try:
        return words.format_map(figures)
    except KeyError:
        return ""


def count_verdicts(found: Sequence[Finding]) -> str:
    """Say how many findings hold, do not, and were not tested."""
    number = Counter(item.verdict for item in found)
    return f"Of {len(found)} findings {number[HOLDS]} hold here, {number[FAILS]} do not and {number[NOT_TESTED]} are not tested."

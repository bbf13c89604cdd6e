"""Compare ways to shrink a frame before the 2D network, and widths of it: speed against recall.

    python -m bench.stems --json stems.json

Each candidate is trained by the same short recipe on the first frames of the LN83 simulated set and tested on its last ones;
its speed is that from a pre-processed frame on the device to a logit, all candidates timed in turns.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.command_line import new_parser
from sfxjax.data.batches import READ_BATCH, filled
from sfxjax.data.sets import FrameSet, open_set
from sfxjax.data.splits import labelled_split, split
from sfxjax.errors import UserError, run_main
from sfxjax.evaluation.metrics import miss_accuracy_at_recall, summary
from sfxjax.files import atomic_write_json
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import HitClassifier, parameter_count
from sfxjax.models.stem import BaseConfig, stem
from sfxjax.preprocess.definition import normalize_pixels
from sfxjax.preprocess.validity import settle
from sfxjax.simulate.write import simulated_data
from sfxjax.training.config import TrainingConfig
from sfxjax.training.loop import Validation, fit
from sfxjax.training.step import Domains

from .throughput.inputs import random_model
from .throughput.stages import Setting, compiled
from .throughput.timing import Timed, measure_in_turns

TRAINED_SET = "LN83"
FAIR_RECALL = 0.95


# The default first.
STEMS = (
    BaseConfig(),
    BaseConfig(noise_normalised=False),
    BaseConfig(spot=1),
    BaseConfig(spot=5),
    BaseConfig(channels=(16, 32)),
    BaseConfig(channels=(4, 8)),
    BaseConfig(block=16),
    BaseConfig(block=4),
    BaseConfig(stem="space_to_depth", block=6),
    BaseConfig(stem="space_to_depth", block=4, channels=(8, 16, 32)),
)


def describe_stem(config: BaseConfig) -> str:
    """Name a base: its stem, what that adds up, in which units, and its channels."""
    words = f"{config.stem} {config.block}"
    if config.stem == "block_extrema":
        sums = f"sums of {config.spot} x {config.spot}" if config.spot > 1 else "pixels"
        words += f" of {sums}, {'noise-normalised' if config.noise_normalised else 'LCN units'}"
    return f"{words}; {'-'.join(map(str, config.channels))}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser("bench.stems", "Compare stems and widths.")
    parser.add_argument("--frames", type=int, default=600, help="of the simulated set (default: 600)")
    parser.add_argument("--epochs", type=int, default=6, help="of 20 steps of 32 frames (default: 6)")
    parser.add_argument("--seconds", type=float, default=2.0, help="to time each for (default: 2)")
    parser.add_argument("--labels", type=int, help="to train on (default: 1200 of 2000 frames)")
    parser.add_argument("--only", default="", metavar="STEM", help="candidates whose names begin so")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the record there")
    options = parser.parse_args(arguments)
    if options.frames < 50 or options.epochs < 1 or options.seconds <= 0:
        raise UserError("give at least 50 --frames, one of --epochs and more than no --seconds")
    candidates = [config for config in STEMS if describe_stem(config).startswith(options.only)]
    if not candidates:
        raise UserError(
            f"no candidate begins with {options.only!r}; there are {'; '.join(map(describe_stem, STEMS))}"
        )
    record = compare_stems(candidates, options.frames, options.epochs, options.seconds, options.labels)
    show_stems(record)
    if options.json is not None:
        atomic_write_json(options.json, record)
        print(f"written to {options.json}")


def compare_stems(
    candidates: Sequence[BaseConfig], frames: int, epochs: int, seconds: float, labels: int | None = None
) -> dict[str, Any]:
    """Train, test and time candidates.

    Args:
        candidates: bases of whole frames.
        frames: of the simulated set.
        epochs: of 20 steps.
        seconds: to time each for.
        labels: to train on; None: all of the training part.

    Returns:
        The record, JSON-ready.
    """
    with open_set(simulated_data([TRAINED_SET], frames), TRAINED_SET) as frame_set:
        positive = frame_set.positives
        maps = all_maps(frame_set, candidates)
    rates = stem_speeds(candidates, seconds)
    rows = []
    for config in candidates:
        began = time.monotonic()
        row = {"stem": describe_stem(config), **rates[config]} | trained(
            config, maps[config.maps], positive, epochs, labels
        )
        rows.append(row | {"training_seconds": round(time.monotonic() - began, 1)})
        print(
            f"{rows[-1]['stem']}: trained in {rows[-1]['training_seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    device = jax.local_devices()[0]
    return {
        "data_set": f"simulated set {TRAINED_SET}",
        "frames": frames,
        "epochs": epochs,
        "labels": len(labelled_split(labels, frames).train),
        "device": f"{device.device_kind} ({device.platform})",
        "jax": jax.__version__,
        "rows": rows,
    }


def all_maps(frame_set: FrameSet, candidates: Sequence[BaseConfig]) -> dict[tuple[Any, ...], Any]:
    """Pre-process a set once and shrink it by every stem; bfloat16 (n, ...) by `BaseConfig.maps`."""
    wanted = {config.maps: config for config in candidates}
    mask = frame_set.mask_crop()
    good = jnp.ones((724, 724), bool) if mask is None else jnp.asarray(mask)

    @jax.jit
    def shrink(crops: jax.Array) -> list[jax.Array]:
        def one(crop: jax.Array) -> list[jax.Array]:
            frame, _ = normalize_pixels(settle(crop, good, math.inf, False)[0])
            return [stem(frame[None], config)[0].astype(jnp.bfloat16) for config in wanted.values()]

        return jax.lax.map(one, crops)

    parts: list[list[Any]] = [[] for _ in wanted]
    for batch in frame_set.batches(range(len(frame_set)), READ_BATCH):
        crops = batch.crops
        for kept, found in zip(parts, shrink(filled(crops, READ_BATCH)), strict=True):
            kept.append(np.asarray(found)[: len(crops)])
    return {key: np.concatenate(kept) for key, kept in zip(wanted, parts, strict=True)}


def trained(config: BaseConfig, maps: Any, positive: Any, epochs: int, labels: int | None) -> dict[str, Any]:
    """Train on labelled frames and test on others, in the order of the paper's splits."""
    ranges = labelled_split(labels, len(positive))
    last = split("full", len(positive)).test
    train, validation, test = (
        slice(part.start, part.stop) for part in (ranges.train, ranges.validation, last)
    )
    recipe = TrainingConfig(base=config, epochs=epochs, steps_per_epoch=20)
    result = fit(
        recipe,
        Domains(maps[train], positive[train].astype(np.float32), None),
        Validation(maps[validation], positive[validation], None),
        devices=jax.local_devices()[:1],
    )
    model = TrainedModel(recipe.base, result.variables("source"))
    parts = np.array_split(maps[test], max(1, len(maps[test]) // READ_BATCH))
    logits = np.concatenate([np.asarray(_logits(model.config, model.variables, part)) for part in parts])
    truth = positive[test].astype(int)
    found = summary(truth, 1 / (1 + np.exp(-logits)))
    base = result.params["base"]
    at_recall = miss_accuracy_at_recall(truth, logits, FAIR_RECALL)
    return {
        "parameters_of_base": parameter_count(base),
        "test": found,
        "miss_accuracy_at_95": None if at_recall is None else 100 * at_recall,
        "test_frames": len(truth),
    }


@partial(jax.jit, static_argnums=0)
def _logits(config: BaseConfig, variables: Any, maps: jax.Array) -> jax.Array:
    return TrainedModel(config, variables).map_logits(maps)


def stem_speeds(candidates: Sequence[BaseConfig], seconds: float) -> dict[BaseConfig, dict[str, Any]]:
    """Time each candidate from pre-processed frames on the device to logits, as screening uses it, and in one pass."""
    setting = Setting()
    frames = setting.normalized

    def used(config: Any, variables: Any, frames: jax.Array) -> jax.Array:
        return TrainedModel(config, variables).logits(frames)

    def once(config: Any, variables: Any, frames: jax.Array) -> jax.Array:
        return HitClassifier(config).apply(variables, stem(frames, config))  # type: ignore[return-value]

    timed = []
    for config in candidates:
        variables = jax.device_put(random_model(config, None).variables, setting.device)
        for function in (used, once):
            program = compiled(partial(function, config), variables, frames[0])
            timed.append(Timed(partial(program, variables), frames, setting.batch))
    rates = iter(measure_in_turns(timed, seconds))
    return {
        config: {"rate": next(rates).to_json(), "rate_one_pass": next(rates).to_json()}
        for config in candidates
    }


def show_stems(record: dict[str, Any]) -> None:
    """Print the table as Markdown."""
    first = record["rows"][0]["rate"]["median"]
    print(
        f"\n{record['data_set']}, {record['labels']} labels, {record['epochs']} epochs of 20 steps of 32 frames; "
        f"{record['rows'][0]['test_frames']} test frames; {record['device']}\n"
    )
    print(
        "| stem, channels | parameters | recall / misses, % | misses at 95 % recall, % | speed | speed, one pass |"
    )
    print("|---|---|---|---|---|---|")
    for row in record["rows"]:
        test, at_recall = row["test"], row["miss_accuracy_at_95"]
        both = f"{test['recall']['percent']:.1f} / {test['miss_accuracy']['percent']:.1f}"
        at = "-" if at_recall is None else f"{at_recall:.1f}"
        speed, one = (f"{row[key]['median'] / first:.2f}" for key in ("rate", "rate_one_pass"))
        print(f"| {row['stem']} | {row['parameters_of_base']:,} | {both} | {at} | {speed} | {one} |")


if __name__ == "__main__":
    sys.exit(run_main(main))

"""Train a domain-adversarial network: labels from one set, none from another.

    python -m train.dann --source LN83 --target LO19

trains on the labelled source and the unlabelled target, trains the same network on the source alone for comparison, tests
both on the target, and leaves a model that `python -m sfxjax.screen FILE --model runs/dann-LN83-LO19 --out DIR` applies.
Without --data both sets are simulated stand-ins. A killed run goes on with the same command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sfxjax.cxidb import FrameSet, open_set, set_location
from sfxjax.errors import UserError, run_main
from sfxjax.files import atomic_write_json, atomic_write_text
from sfxjax.frame_statistics import summarize as summarize_statistics
from sfxjax.models import BaseConfig
from sfxjax.progress import progress
from sfxjax.reductions import get_reduction
from sfxjax.simulate import stand_in_data
from sfxjax.splits import split
from sfxjax.storage import MODEL_FOLDER, TrainedModel, save_model
from train.evaluation import calibration_shift, score_set, shifted, summarize
from train.figures import plot_heads
from train.loop import Fit, Validation, check_batch, check_classes, fit
from train.published import TABLE_5
from train.recipe import Recipe
from train.resident import load_maps
from train.steps import Domains

STAND_IN_FRAMES = 2000
SETTINGS = "settings.json"
NETWORKS = {"dann": "DANN", "source_only": "source-only CNN"}


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
        source, target: names of the sets.
        data: folder of CXIDB 76, or None for stand-ins.
        frames: of each stand-in.
        reduction: name of a reduction, or None for whole frames.
        recipe: how both networks are trained.
    """

    source: str
    target: str
    data: str | None
    frames: int
    reduction: str | None
    recipe: Recipe


def parse(arguments: Sequence[str] | None = None) -> tuple[Settings, Path]:
    """Read the command line into settings and the output folder."""
    default = Recipe()
    parser = argparse.ArgumentParser(
        prog="python -m train.dann",
        description="Train a domain-adversarial network: labels from the source, none from the target.",
    )
    parser.add_argument("--source", required=True, metavar="SET", help="labelled set: LN83, LN84 or LO19")
    parser.add_argument("--target", required=True, metavar="SET", help="unlabelled set, tested on")
    parser.add_argument("--data", metavar="DIR", help="folder of CXIDB 76; without it, simulated stand-ins")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/dann-SOURCE-TARGET")
    parser.add_argument(
        "--frames", type=int, default=STAND_IN_FRAMES, help=f"of each stand-in (default: {STAND_IN_FRAMES})"
    )
    parser.add_argument(
        "--reduction",
        metavar="NAME",
        help="train the 1D CNN on reduced frames, such as row_wise_decomposition",
    )
    parser.add_argument("--epochs", type=int, default=default.epochs, help=f"(default: {default.epochs})")
    parser.add_argument(
        "--batch", type=int, default=default.batch, help=f"frames a step (default: {default.batch})"
    )
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate)
    parser.add_argument("--strength", type=float, default=default.strength, help="of the gradient reversal")
    parser.add_argument("--seed", type=int, default=default.seed)
    chosen = parser.parse_args(arguments)
    source, target = (set_location(name).name for name in (chosen.source, chosen.target))
    if source == target:
        raise UserError("--source and --target are the same set; name two")
    for name in ("epochs", "batch", "frames"):
        if getattr(chosen, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(chosen, name)}")
    if not (0 < chosen.learning_rate < 10 and 0 <= chosen.strength < 1000 and 0 <= chosen.seed < 2**31):
        raise UserError(
            "--learning-rate must be above 0, --strength not below 0, --seed from 0 to 2147483647"
        )
    if chosen.reduction is not None:
        get_reduction(chosen.reduction)
    recipe = Recipe(
        base=BaseConfig(dimensions=2 if chosen.reduction is None else 1),
        epochs=chosen.epochs,
        batch=chosen.batch,
        learning_rate=chosen.learning_rate,
        strength=chosen.strength,
        seed=chosen.seed,
    )
    out = chosen.out or Path("runs") / f"dann-{source}-{target}"
    return Settings(source, target, chosen.data, chosen.frames, chosen.reduction, recipe), out


def load(settings: Settings, source: FrameSet, target: FrameSet) -> tuple[Domains, Validation]:
    """Read, pre-process and stem the training and validation frames of both sets."""
    config, reduction = settings.recipe.base, settings.reduction
    parts: dict[tuple[str, str], np.ndarray] = {}
    for frame_set in (source, target):
        ranges = split("full", len(frame_set))
        total = len(ranges.train) + len(ranges.validation)
        with progress(f"reading and pre-processing {describe(frame_set)}", total) as advance:
            for part, indices, every in (("train", ranges.train, 2), ("validation", ranges.validation, 1)):
                parts[frame_set.name, part] = load_maps(
                    frame_set, indices, config, reduction=reduction, mask_every=every, advance=advance
                )
    ranges = split("full", len(source))
    positive = source.positives
    training = Domains(
        parts[source.name, "train"],
        positive[ranges.train.start : ranges.train.stop].astype(np.float32),
        parts[target.name, "train"],
    )
    validation = Validation(
        parts[source.name, "validation"],
        positive[ranges.validation.start : ranges.validation.stop],
        parts[target.name, "validation"],
    )
    return training, validation


def describe(frame_set: FrameSet) -> str:
    """Name a set, and say so when it is simulated."""
    return f"simulated stand-in {frame_set.name}" if frame_set.simulated else frame_set.name


def train_network(name: str, settings: Settings, training: Domains, validation: Validation, out: Path) -> Fit:
    """Train one of the two networks, with progress."""
    recipe = settings.recipe
    adversarial = name == "dann"
    if not adversarial:
        training, validation = training._replace(target=None), validation._replace(target=None)
    with progress(f"training {NETWORKS[name]}", recipe.epochs * recipe.steps_per_epoch, "steps") as advance:
        result = fit(recipe, training, validation, out / "checkpoints" / name, advance=advance)
    lines = [json.dumps({"network": name, **record}) for record in result.history]
    atomic_write_text(out / f"log_{name}.jsonl", "\n".join(lines) + "\n")
    return result


def test_network(
    name: str, settings: Settings, result: Fit, sets: tuple[FrameSet, FrameSet], out: Path
) -> dict[str, Any]:
    """Keep a network as a model and test it on both sets, as `sfxjax.screen` would score their frames."""
    source, target = sets
    ranges = split("full", len(source))
    models = {
        domain: TrainedModel(settings.recipe.base, result.variables(domain), reduction=settings.reduction)
        for domain in ("source", "target")
    }
    jobs = {
        "validation": (models["source"], source, ranges.validation),
        "source": (models["source"], source, ranges.test),
        "target": (models["target"], target, range(len(target))),
    }
    scored = {}
    with progress(
        f"testing {NETWORKS[name]}", sum(len(indices) for _, _, indices in jobs.values())
    ) as advance:
        for key, (model, frame_set, indices) in jobs.items():
            scores, statistics = score_set(model, frame_set, indices, advance)
            scored[key] = (frame_set.positives[indices.start : indices.stop], scores)
    shift = calibration_shift(*scored["validation"])
    scored = {key: (positive, shifted(scores, shift)) for key, (positive, scores) in scored.items()}
    # Bounds on recall need many positives, so all held-out source frames are kept.
    positive, scores = (
        np.concatenate(parts) for parts in zip(scored["validation"], scored["source"], strict=True)
    )
    trained_on = {
        "network": name,
        "source": source.name,
        "target": target.name if name == "dann" else None,
        "simulated": source.simulated or target.simulated,
        "frames": [len(source), len(target)],
        "recipe": asdict(settings.recipe),
        "epoch": result.epoch,
        "validation": {
            "scores": [round(float(score), 6) for score in scores],
            "positives": [bool(value) for value in positive],
        },
        "frame_statistics": summarize_statistics(statistics),
    }
    variables = with_shift(models["target"].variables, shift)
    model = dataclasses.replace(models["target"], variables=variables, trained_on=trained_on)
    save_model(out / (MODEL_FOLDER if name == "dann" else name), model)
    tested = {key: summarize(*scored[key]) for key in ("source", "target")}
    return tested | {
        "calibration_shift": shift,
        "epoch_kept": result.epoch,
        "training_seconds": round(result.seconds, 1),
    }


def with_shift(variables: dict[str, Any], shift: float) -> dict[str, Any]:
    """Return a network's variables with its logit's bias moved by `shift`."""
    params = variables["params"]
    head = params["label_head"]
    last = head["logit"] | {"bias": head["logit"]["bias"] + np.float32(shift)}
    return variables | {"params": params | {"label_head": head | {"logit": last}}}


def show(results: dict[str, Any]) -> None:
    """Print the table of results."""
    from rich.console import Console
    from rich.table import Table

    source, target = results["source"], results["target"]
    what = "simulated stand-ins" if results["simulated"] else "CXIDB 76"
    metric = "recall on hits and maybes / accuracy on misses, % (95 % interval)"
    table = Table(title=f"{source} -> {target}, {what}, seed {results['seed']}: {metric}")
    for column in (
        "network",
        f"{target}, all {results['frames'][1]} frames",
        f"{source}, {results['test_frames']} test frames",
        "balanced accuracy, target",
    ):
        table.add_column(column, justify="left" if column == "network" else "right")

    def cell(tested: dict[str, Any]) -> str:
        return " / ".join(
            f"{tested[key]['percent']:.1f} ({tested[key]['low']:.1f}-{tested[key]['high']:.1f})"
            for key in ("recall", "miss_accuracy")
        )

    notes = {"dann": "no target label", "source_only": "same recipe"}
    for name, title in NETWORKS.items():
        tested = results["networks"][name]
        table.add_row(
            f"{title}, {notes[name]}",
            cell(tested["target"]),
            cell(tested["source"]),
            f"{tested['target']['balanced_accuracy']['percent']:.1f}",
        )
    published = results["published_table_5"]
    if published is not None:
        on_source, on_target = published["source"], published["target"]
        table.add_row(
            "paper, Table 5: DANN on the real sets",
            f"{on_target[0]:.2f} / {on_target[1]:.2f}",
            f"{on_source[0]:.2f} / {on_source[1]:.2f}",
            f"{sum(on_target) / 2:.1f}",
        )
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def check_folder(out: Path, fingerprint: dict[str, Any]) -> None:
    """Raise a UserError unless a folder is new, or of a run with these settings."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is not a folder; name another with --out")
    try:
        earlier = json.loads((out / SETTINGS).read_text())
    except FileNotFoundError:
        return
    except ValueError as error:
        raise UserError(f"{out / SETTINGS} is damaged ({error}); name another folder with --out") from error
    if earlier != fingerprint:
        raise UserError(
            f"{out} holds a run with other settings; name another folder with --out, or delete it"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    start = time.monotonic()
    settings, out = parse(arguments)
    fingerprint = json.loads(json.dumps(asdict(settings)))
    devices = jax.local_devices()
    check_batch(settings.recipe.batch, len(devices))
    check_folder(out, fingerprint)
    kind = devices[0].device_kind
    print(f"{settings.source} (labelled) -> {settings.target} (unlabelled), devices: {len(devices)} {kind}")
    if settings.data is None:
        print(
            f"no --data given: simulated stand-ins of {settings.frames} frames a set (the real ones have 2000)"
        )
        data = stand_in_data([settings.source, settings.target], settings.frames)
    else:
        data = Path(settings.data)
    with open_set(data, settings.source) as source, open_set(data, settings.target) as target:
        training, validation = load(settings, source, target)
        check_classes(training.positive)
        # Only now, so that data found wanting can be mended without another --out.
        atomic_write_json(out / SETTINGS, fingerprint)
        networks = {}
        for name in NETWORKS:
            result = train_network(name, settings, training, validation, out)
            networks[name] = test_network(name, settings, result, (source, target), out)
            if name == "dann":
                simulated = " (simulated stand-ins)" if source.simulated or target.simulated else ""
                title = f"DANN {source.name} -> {target.name}{simulated}"
                plot_heads(result.history, result.epoch, title, out / "heads.png")
        published = TABLE_5.get((source.name, target.name))
        results = {
            "source": source.name,
            "target": target.name,
            "simulated": source.simulated or target.simulated,
            "frames": [len(source), len(target)],
            "test_frames": len(split("full", len(source)).test),
            "seed": settings.recipe.seed,
            "recipe": asdict(settings.recipe),
            "reduction": settings.reduction,
            "networks": networks,
            "published_table_5": None
            if published is None
            else {"source": published[0], "target": published[1]},
            "jax": jax.__version__,
            "device": devices[0].device_kind,
        }
    atomic_write_json(out / "results.json", results)
    show(results)
    print(f"model, log_*.jsonl, results.json and heads.png are in {out} ({time.monotonic() - start:.0f} s)")
    print(f"next: python -m sfxjax.screen FILE --model {out} --out DIR")


if __name__ == "__main__":
    sys.exit(run_main(main))

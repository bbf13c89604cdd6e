"""Hands the hits of a screening and their spots to DIALS: run `libtbx.python for_dials.py` where the lists lie.

`sfxjax screen` copies this script beside its lists. It reads `hits.expt`, `frames.csv` and `spots.csv`, lets DIALS read beam
and detector from the frames' own files, and writes `strong.expt` and `strong.refl`, which `dials.index strong.expt strong.refl
joint_indexing=False` takes in place of what `dials.import` and `dials.find_spots` write. Where a model chose the hits there is
no `spots.csv`; then it writes `imported.expt` alone, for `dials.stills_process`. Files that DIALS cannot read are left out,
which a line says; the status is 1 if no hit is left. It needs DIALS and nothing of sfxjax.
"""

from __future__ import annotations

import csv
import json
import sys
import uuid
from pathlib import Path
from typing import Any


def main(folder: Path) -> int:
    """Write what DIALS takes of a screening's folder; returns the exit status."""
    from dials.array_family import flex
    from dxtbx.format.Registry import get_format_class_for_file
    from dxtbx.model.experiment_list import ExperimentList, ExperimentListFactory

    with (folder / "frames.csv").open(newline="") as file:
        hits = [(row["file"], row["event"]) for row in csv.DictReader(file) if row["label"] == "HIT"]
    with (folder / "hits.expt").open() as file:
        places = json.load(file)["imageset"]
    listed = (folder / "spots.csv").exists()
    spots: dict[tuple[str, str], list[dict[str, str]]] = {}
    if listed:
        with (folder / "spots.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                spots.setdefault((row["file"], row["event"]), []).append(row)
    if len(hits) != len(places):
        print(
            f"error: {len(places)} frames in hits.expt, {len(hits)} hits in frames.csv: "
            "let the screening end, or screen again",
            file=sys.stderr,
        )
        return 1

    def experiments_of(place: dict[str, Any]) -> Any:
        path = place["images"][0]
        chosen = {key: place[key] for key in ("single_file_indices",) if key in place}
        reader = get_format_class_for_file(path)
        if reader is None:
            raise ValueError("it has no format for it" if Path(path).exists() else "there is no such file")
        images = reader.get_imageset([path], as_imageset=True, **chosen)
        found = ExperimentListFactory.from_imageset_and_crystal(images, None)
        if len(found) != 1 or found[0].beam is None or found[0].detector is None:
            raise ValueError("it finds no beam and detector in it")
        return found

    experiments, table = ExperimentList(), flex.reflection_table()
    left_out: dict[tuple[str, str], int] = {}
    for hit, place in zip(hits, places, strict=True):
        number = len(experiments)
        try:
            experiments.extend(experiments_of(place))
        # What its readers of formats raise is as many things as there are readers.
        except Exception as error:
            key = place["images"][0], " ".join(f"{error} ({type(error).__name__})".split())
            left_out[key] = left_out.get(key, 0) + 1
            continue
        experiments[number].identifier = str(uuid.uuid4())
        rows = spots.get(hit, [])
        table.extend(reflections(flex, experiments[number].detector, rows, number))
        table.experiment_identifiers()[number] = experiments[number].identifier
    for (path, reason), count in left_out.items():
        print(f"left out {count} of the hits: DIALS cannot read {path}: {reason}", file=sys.stderr)
    if not len(experiments):
        print("error: no hits to hand over" + (" that DIALS can read" if hits else ""), file=sys.stderr)
        return 1
    if not listed:
        experiments.as_file(str(folder / "imported.expt"))
        print(f"{len(experiments)} hits in {folder}: imported.expt")
        return 0
    experiments.as_file(str(folder / "strong.expt"))
    table.as_file(str(folder / "strong.refl"))
    print(f"{len(table)} spots of {len(experiments)} hits in {folder}: strong.expt and strong.refl")
    return 0


def reflections(flex: Any, detector: Any, rows: list[dict[str, str]], number: int) -> Any:
    """Return a frame's spots as DIALS' spot finder gives them, places in pixels from a panel's corner."""
    found = [place_on(detector, float(row["ss"]), float(row["fs"])) for row in rows]
    strength = flex.double(float(row["snr"]) ** 2 for row in rows)
    table = flex.reflection_table()
    table["panel"] = flex.size_t(panel for panel, _, _ in found)
    table["id"] = flex.int(len(rows), number)
    table["imageset_id"] = flex.int(len(rows), number)
    table["flags"] = flex.size_t(len(rows), int(table.flags.strong))
    # DIALS counts from a pixel's corner, the lists from its middle.
    table["xyzobs.px.value"] = flex.vec3_double((fs + 0.5, ss + 0.5, 0.5) for _, ss, fs in found)
    table["xyzobs.px.variance"] = flex.vec3_double(len(rows), (0.1, 0.1, 1 / 12))
    table["intensity.sum.value"] = strength
    table["intensity.sum.variance"] = strength
    return table


def place_on(detector: Any, ss: float, fs: float) -> tuple[int, float, float]:
    """Return (panel, ss, fs) of a place in the stored array: panels cut from one image, or below one another in a stack."""
    offsets = [panel.get_raw_image_offset() for panel in detector]
    sizes = [panel.get_image_size() for panel in detector]
    if len(detector) > 1 and not any(x or y for x, y in offsets):
        panel = min(int((ss + 0.5) // sizes[0][1]), len(detector) - 1)
        return panel, ss - panel * sizes[0][1], fs
    for panel, ((x, y), (width, height)) in enumerate(zip(offsets, sizes, strict=True)):
        if 0 <= fs + 0.5 - x < width and 0 <= ss + 0.5 - y < height:
            return panel, ss - y, fs - x
    return 0, ss, fs


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))

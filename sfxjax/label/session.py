"""A run that is being labelled: its frames, what the day-one model says of them, the labels, and what follows from them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.labels import MISS, UNLABELLED
from sfxjax.label import store
from sfxjax.label.audit import audit, sample_order
from sfxjax.label.choice import next_frame
from sfxjax.screen.found_spots import CountedFrame
from sfxjax.screen.pictures import flattened, frame_picture, jpeg_of_pixels
from sfxjax.screen.sources import Sources
from sfxjax.spots import recalibration
from sfxjax.spots.frame_pixels import frame_pixels
from sfxjax.text import counted, printable

# Longest side of a picture, pixels.
PICTURE_SIDE = 2000
# Labels after which a step of the learning curve is drawn.
STEP = 10


class Session:
    """One labeller's work on a run. Its methods may be called from several threads.

    Attributes:
        frames: (file, event) of each frame that could be read.
        model: fitted to the labels that are not of the audit.
    """

    def __init__(
        self,
        sources: Sources,
        found: Sequence[CountedFrame],
        folder: Path,
        name: str,
        audit_frames: int,
        recall: float,
        min_snr: float,
        min_spots: int,
    ) -> None:
        self._sources, self._folder, self._recall = sources, folder, recall
        self._counted = [frame for frame in found if frame.spots is not None]
        self.frames = [(frame.stack.file, frame.stack.event(frame.number)) for frame in self._counted]
        self._places = {frame: place for place, frame in enumerate(self.frames)}
        self._inputs = recalibration.inputs_of([frame.spots for frame in self._counted if frame.spots])
        order = sample_order(len(self.frames))
        # The model learns from the others: of a short run at least half.
        self._audit = order[: min(audit_frames, len(order) // 2)]
        self._file = store.LabelFile(folder, name)
        self._start = recalibration.Recalibration(min_snr=min_snr, min_spots=min_spots)
        self._lock = threading.Lock()
        with self._lock:
            self._refit()

    def plan_line(self) -> str:
        """Say how many frames the model may learn from, and how many are the audit's."""
        audit_frames = len(self._audit)
        return (
            f"of {counted(len(self.frames), 'frames')} {audit_frames}, drawn at random, are the audit's, which judges, never"
            f" learnt from; the model learns from the other {len(self.frames) - audit_frames}; they come by turns"
        )

    def end_line(self) -> str:
        """Say what of the labels there is, and where."""
        with self._lock:
            labels = int((self._labels != UNLABELLED).sum())
            learnt, threshold = self.model.labels, self.model.threshold
        return (
            f"{counted(labels, 'labels')} in {self._file.path}, the model fitted to {learnt} of them, the others are the"
            f" audit's; with it a frame is a hit from a probability of {threshold:.3f}"
            if labels
            else "no frame was labelled"
        )

    def label(self, frame: int, label: str | None, comment: str, click: str) -> bool:
        """Keep a label of a frame, or take it back with None; False where this click was kept before."""
        with self._lock:
            file, event = self.frames[frame]
            record = store.Record(file, event, label, comment, click, bool((self._audit == frame).any()))
            kept = self._file.add(record)
            if kept:
                store.write_csv(self._file.path.with_suffix("").with_suffix(".csv"), self._file.records)
                self._refit()
            return kept

    def upcoming(self, count: int = 2, without: Sequence[int] = ()) -> list[int]:
        """Return the next frames to label, by turns: one that the model chose, to learn from, and one of the audit.

        Args:
            count: how many.
            without: frames that are not to be chosen, as they are being labelled.
        """
        with self._lock:
            labelled = self._labels != UNLABELLED
            labelled[list(without)] = True
            allowed = np.ones(len(labelled), bool)
            allowed[self._audit] = False
            # The audit never has more labels than the model learns from, unless there is nothing left to learn from.
            audited = int(labelled[self._audit].sum())
            learnt = int(labelled.sum()) - audited
            probability = self.model.probability(self._inputs)
            chosen: list[int] = []
            while len(chosen) < count:
                waiting = [int(frame) for frame in self._audit if not labelled[frame]]
                active = next_frame(probability, self._inputs, labelled, allowed)
                if active is None and not waiting:
                    break
                if waiting and (active is None or audited < learnt):
                    place, audited = waiting[0], audited + 1
                else:
                    assert active is not None
                    place, learnt = active, learnt + 1
                chosen.append(place)
                labelled[place] = True
            return chosen

    def last(self) -> int | None:
        """Return the frame that was labelled last, None where no label stands."""
        known = store.final(self._file.records)
        return self._places.get(list(known)[-1]) if known else None

    def state(self) -> dict[str, Any]:
        """Return what the page shows: counts, the audit, agreement between labellers and the learning curve."""
        with self._lock:
            labels = self._labels
            done = self._audit[labels[self._audit] != UNLABELLED]
            probability = self.model.probability(self._inputs)
            found = audit(probability[done], labels[done] > MISS, self.model.threshold, self._recall)
            return {
                "frames": len(labels),
                "labels": int((labels != UNLABELLED).sum()),
                "learnt": {"frames": self.model.labels, "of": len(labels) - len(self._audit)},
                "words": {
                    word: int((labels == number).sum())
                    for number, word in enumerate(("miss", "maybe", "hit"))
                },
                "audit": {
                    **asdict(found),
                    "frames": len(done),
                    "of": len(self._audit),
                    "wanted": self._recall,
                },
                "kept": int((probability >= self.model.threshold).sum()),
                "agreement": store.agreement(self._folder),
                "curve": self._curve(),
            }

    def frame(self, place: int) -> dict[str, Any]:
        """Return what the page shows of a frame."""
        shown = self._counted[place]
        assert shown.spots is not None
        file, event = self.frames[place]
        spots = shown.spots
        return {
            "name": printable(f"{Path(file).name} {event}"),
            "spots": [
                [round(float(x), 1), round(float(y), 1)] for x, y in zip(spots.fs, spots.ss, strict=True)
            ],
            "shape": [shown.stack.raw_shape[-1], int(np.prod(shown.stack.raw_shape[:-1]))],
            "probability": round(float(self.model.probability(self._inputs[place][None])[0]), 3),
        }

    def picture(self, place: int) -> bytes:
        """Return a frame as a JPEG, dark on light, its smooth background subtracted."""
        shown = self._counted[place]
        with self._lock:
            pixels, mask, limit = self._sources.read(shown.stack, shown.number)
        values = frame_pixels(pixels, mask, 0, limit).floats()
        good = np.isfinite(values)
        shrink = max(1, -(-max(values.shape) // PICTURE_SIDE))
        return jpeg_of_pixels(frame_picture(flattened(np.nan_to_num(values), good), good, shrink))

    def _refit(self) -> None:
        self._labels = store.label_array(self._file.records, self.frames)
        learnt = self._labels != UNLABELLED
        learnt[self._audit] = False
        model = self._fitted(learnt)
        done = self._audit[self._labels[self._audit] != UNLABELLED]
        scores = model.probability(self._inputs[done])
        advised = audit(scores, self._labels[done] > MISS, model.threshold, self._recall).threshold
        # The threshold of the audit keeps more than the fit's where that is needed, never less.
        self.model = model if advised is None else replace(model, threshold=min(model.threshold, advised))
        if (self._labels != UNLABELLED).any():
            self.model.save(self._folder)

    def _curve(self) -> list[float]:
        """Return, after every ten labels of the model's choice, how many of the audit's labels a fit to them tells right."""
        known = [self._places[key] for key in store.final(self._file.records) if key in self._places]
        own = set(self._audit.tolist())
        learnt = [place for place in known if place not in own]
        done = self._audit[self._labels[self._audit] != UNLABELLED]
        truth = self._labels[done] > MISS
        if not len(done):
            return []
        curve = []
        for count in range(0, len(learnt) + 1, STEP):
            model = self._fitted(np.array(learnt[:count], int))
            curve.append(float(((model.probability(self._inputs[done]) >= model.threshold) == truth).mean()))
        return curve

    def _fitted(self, learnt: np.ndarray) -> recalibration.Recalibration:
        """Return the model fitted to some frames, given by their places or by a bool for each frame."""
        positives = self._labels[learnt] > MISS
        start = self._start
        return recalibration.fit_recalibration(
            self._inputs[learnt], positives, self._inputs, start.min_snr, start.min_spots
        )

"""The parameters of the simulated sets."""

from __future__ import annotations

from dataclasses import dataclass

from sfxjax.errors import UserError
from sfxjax.simulate.crystal import BeamGeometry
from sfxjax.simulate.detector import Detector


@dataclass(frozen=True)
class SimulatedSet:
    """One simulated set.

    Attributes:
        name: the set it stands for.
        cell: unit cell edges, Angstrom, all angles 90 degrees.
        seed: the crystal form, which fixes the structure factors.
        geometry: beam and detector position.
        detector: what the detector does to the image.
        class_counts: frames of (HIT, MAYBE, MISS) in the real set's 2000.
        hit_spots: visible spots a frame at 0, 5, 25, 50, 75, 95 and 100 per cent of the class: the real set's
            percentiles of DIALS' counts, divided by the ratio of DIALS' median to the experts' in the MAYBE
            class.
        maybe_spots: the same for the class MAYBE.
        crystal_misses: share of the misses that hold a crystal too weak to count.
        level: median background at the top of the solvent ring, photons.
        level_spread: standard deviation of its logarithm, from pulse energy and jet thickness.
        air: air scatter at the beam stop relative to the ring.
        ring: height of the solvent ring relative to the measured frame.
        b_factor: mean temperature factor, Angstrom^2.
        domain: median size of a crystal domain, Angstrom.
        spot_size: median standard deviation of a spot before the detector's point spread, pixels.
        streaks: share of shots with a jet streak.
        shadows: share of shots with a shadow.
        blanks: share of misses without a pulse.
        mask_arms: half length along ss and half width along fs of the masked bar across the stop, pixels.
        mask_border: masked pixels along each edge of the detector.
    """

    name: str
    cell: tuple[float, float, float]
    seed: int
    geometry: BeamGeometry
    detector: Detector
    class_counts: tuple[int, int, int]
    hit_spots: tuple[float, ...]
    maybe_spots: tuple[float, ...]
    crystal_misses: float
    level: float
    level_spread: float = 0.25
    air: float = 0.6
    ring: float = 1.0
    b_factor: float = 25.0
    domain: float = 4000.0
    spot_size: float = 0.35
    streaks: float = 0.1
    shadows: float = 0.04
    blanks: float = 0.02
    mask_arms: tuple[float, float] = (0.0, 0.0)
    mask_border: int = 0


SIMULATED_SETS: dict[str, SimulatedSet] = {
    "LN83": SimulatedSet(
        name="LN83",
        cell=(73.0, 96.0, 119.0),
        seed=83,
        geometry=BeamGeometry(wavelength=1.303, distance=124.0, beam_centre=(962.0, 958.5)),
        detector=Detector(
            gain=0.87,
            stop_radius=54.0,
            stop_arcs=0.2,
            step_position=-30.0,
            step_transmission=0.9,
            hot_pixels=4,
        ),
        class_counts=(346, 63, 1591),
        hit_spots=(10, 10, 19, 37, 72, 204, 1000),
        maybe_spots=(4, 4, 4.6, 6.3, 7.5, 9, 9),
        crystal_misses=0.3,
        level=2400.0,
        air=0.6,
        ring=0.8,
        spot_size=0.28,
        streaks=0.15,
        mask_arms=(82.0, 30.5),
    ),
    "LN84": SimulatedSet(
        name="LN84",
        cell=(118.0, 223.0, 311.0),
        seed=84,
        geometry=BeamGeometry(wavelength=1.301, distance=148.0, beam_centre=(959.0, 961.0)),
        detector=Detector(
            gain=1.0,
            stop_radius=54.5,
            stop_arcs=0.12,
            step_position=22.0,
            step_transmission=0.93,
            hot_pixels=4,
        ),
        class_counts=(806, 132, 1062),
        hit_spots=(10, 10, 31, 80, 180, 430, 1000),
        maybe_spots=(4, 4, 4.5, 6.2, 7.7, 9, 9),
        crystal_misses=0.35,
        level=3000.0,
        air=0.8,
        ring=0.9,
        b_factor=35.0,
        spot_size=0.35,
        streaks=0.08,
        mask_border=1,
    ),
    "LO19": SimulatedSet(
        name="LO19",
        cell=(42.0, 52.0, 88.0),
        seed=19,
        geometry=BeamGeometry(wavelength=1.308, distance=112.0, beam_centre=(958.0, 960.5)),
        detector=Detector(
            gain=0.61,
            stop_radius=54.5,
            stop_arcs=0.08,
            step_position=-48.0,
            step_transmission=0.86,
            hot_pixels=6,
        ),
        class_counts=(730, 151, 1119),
        hit_spots=(10, 14, 42, 103, 217, 475, 1000),
        maybe_spots=(4, 4, 5, 6.5, 8, 9, 9),
        crystal_misses=0.5,
        level=5600.0,
        air=0.4,
        ring=1.1,
        b_factor=20.0,
        domain=3000.0,
        spot_size=0.42,
        streaks=0.1,
        mask_border=1,
    ),
}


def simulated_set(name: str) -> SimulatedSet:
    """Look up a simulated set.

    Args:
        name: the set's name.

    Raises:
        UserError: when there is no simulated set of that name.
    """
    if name not in SIMULATED_SETS:
        raise UserError(f"no simulated set for the set {name!r}; choose one of {', '.join(SIMULATED_SETS)}")
    return SIMULATED_SETS[name]

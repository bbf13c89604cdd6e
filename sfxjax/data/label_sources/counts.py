"""Counts of a spot finder, turned into labels.

A finder's count holds noise, salt, ice and rings beside Bragg spots, so that the number from which a frame is a hit differs from
detector to detector (Ke et al., J. Synchrotron Rad. 25:655, 2018, used 15 to 50 spots of DIALS for five sets). Without a number
from the user it is read off the counts themselves.
"""

from __future__ import annotations

import numpy as np

from sfxjax.errors import UserError

# Frames that belong to neither group with this probability keep no label.
SURE = 0.9
# Ashman, Bird and Zepf, Astron. J. 108:2348 (1994): below it two groups are not told apart.
LEAST_SEPARATION = 2.0
# Fewer counts tell no distribution.
LEAST_FRAMES = 30


def labels_of_counts(counts: np.ndarray, where: str, min_spots: int | None = None) -> np.ndarray:
    """Call frames hits or misses by a finder's counts.

    With `min_spots`, frames of as many are hits and the others misses. Without, log(1 + count) is taken for a mixture of two
    normal distributions, and a frame gets the label of the group that it belongs to with a probability of 0.9 or more.

    Args:
        counts: (frames,) at least 0, NaN where there is none.
        where: the file, for messages.
        min_spots: spots from which a frame is a hit, or None.

    Returns:
        int8 (frames,): 0 for a miss, 2 for a hit, -1 without a label.

    Raises:
        UserError: too few counts, or counts that are not of two groups.

    References:
        Mixtures: Dempster, Laird and Rubin, J. R. Stat. Soc. B 39:1 (1977). Separation: Ashman, Bird and Zepf, Astron. J.
        108:2348 (1994).
    """
    labels = np.full(len(counts), -1, np.int8)
    known = np.isfinite(counts)
    if min_spots is not None:
        labels[known] = np.where(counts[known] >= min_spots, 2, 0)
        return labels
    advice = "say from how many spots a frame is a hit with min_spots=N"
    if known.sum() < LEAST_FRAMES or len(np.unique(counts[known])) < 3:
        raise UserError(f"{where}: {known.sum()} counts are too few to tell hits from misses by; {advice}")
    from sklearn.mixture import GaussianMixture

    values = np.log1p(counts[known])[:, None]
    mixture = GaussianMixture(2, n_init=3, random_state=0).fit(values)
    means, variances = mixture.means_[:, 0], mixture.covariances_[:, 0, 0]
    separation = abs(means[1] - means[0]) * np.sqrt(2 / variances.sum())
    if separation < LEAST_SEPARATION:
        raise UserError(
            f"{where}: its counts do not fall into two groups (separation {separation:.1f}, {LEAST_SEPARATION:g} is "
            f"needed); {advice}"
        )
    low = int(means.argmin())
    # The wider group would reach round the other one: beyond a mean no frame belongs to the other group.
    miss = mixture.predict_proba(values)[:, low]
    miss = np.where(values[:, 0] <= means[low], 1, np.where(values[:, 0] >= means[1 - low], 0, miss))
    labels[known] = np.where(miss >= SURE, 0, np.where(miss <= 1 - SURE, 2, -1))
    return labels

"""Which frame to label next: one that the model is unsure of and that is unlike those labelled already.

The rule: of the frames without a label, the one with the largest product of

- the uncertainty, 4 p (1 - p), with p the probability of a positive (uncertainty sampling: Lewis and Gale, SIGIR 1994), and a
  floor, so that a model that is sure and wrong can be found out;
- the distance to the nearest labelled frame among the model's inputs (as the greedy choice of a core set: Sener and Savarese,
  ICLR 2018).
"""

from __future__ import annotations

import numpy as np

FLOOR = 0.02


def next_frame(
    probability: np.ndarray, inputs: np.ndarray, labelled: np.ndarray, allowed: np.ndarray
) -> int | None:
    """Choose a frame.

    Args:
        probability: (n,) of a positive.
        inputs: (n, d) of the model, each of about the same scale.
        labelled: bool (n,).
        allowed: bool (n,), frames that may be chosen.

    Returns:
        Its number; None where no frame is left.
    """
    free = np.flatnonzero(allowed & ~labelled)
    if not len(free):
        return None
    uncertain = 4 * probability[free] * (1 - probability[free]) + FLOOR
    if not labelled.any():
        return int(free[uncertain.argmax()])
    apart = inputs[free][:, None] - inputs[labelled][None]
    nearest = np.sqrt((apart**2).sum(-1)).min(1)
    return int(free[(uncertain * (nearest + 1e-3)).argmax()])

"""How good a model is, and whether a run's frames are like those it was trained on."""

"""How good a model is, and whether its frames are like those it learned from."""

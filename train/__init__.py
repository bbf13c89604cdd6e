"""The training commands of a checkout: `python -m train.dann` and its kin. The code is in `sfxjax.training`."""

"""The training commands of a checkout: `python -m train.dann` and its kin. The code is in `sfxjax.training`."""

from sfxjax.starting import end_quietly_while_starting

end_quietly_while_starting("train")

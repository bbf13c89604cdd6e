"""Commands that measure, and that make the pictures of the docs."""

from sfxjax.starting import end_quietly_while_starting

end_quietly_while_starting("bench")

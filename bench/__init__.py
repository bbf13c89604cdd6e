"""Commands that measure, and that make the pictures of the docs."""

"""From a file to frames, their masks and their labels; nothing here needs JAX."""

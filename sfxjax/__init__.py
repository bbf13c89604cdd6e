"""Pattern classification for serial femtosecond crystallography, in JAX."""

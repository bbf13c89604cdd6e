"""What the value of a pixel tells: nothing, in a gap or a broken pixel, or so many photons. Knows arrays alone, no files."""

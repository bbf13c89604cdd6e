"""Hit finding while the beam is on: frames from streams and growing files, judged as they come, and a page that shows it."""

"""What `sfxjax live` does under load: rates, latency, memory, and where the frames are."""

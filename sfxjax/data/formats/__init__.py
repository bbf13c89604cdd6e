"""One module a file format: it tells its own files and opens them."""

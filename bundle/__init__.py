"""The deployable folder: manifest, preprocessing, hashes and atomic writes (no torch here)."""

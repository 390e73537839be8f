"""The HTTP service of a bundle; it loads no torch."""

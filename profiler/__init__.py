"""The latency profiler: what every artifact of a bundle costs on this machine (DESIGN 11)."""

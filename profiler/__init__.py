"""The latency profiler: what every artifact of a bundle costs on this machine.

See docs/design.md, section Latency.
"""

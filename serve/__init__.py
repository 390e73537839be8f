"""Runtimes, the HTTP service and the latency profiler; torch is loaded only by its own runtimes."""

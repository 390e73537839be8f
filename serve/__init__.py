"""Runtimes, the HTTP service and the latency profiler: they come with the next release.

Nothing is served from here yet. A bundle that ``mldr-deploy distill-and-export`` writes holds all
that a service needs (artifacts, labels, preprocessing, hashes), and ``mldr_deploy.bundle`` reads
it without loading torch.
"""

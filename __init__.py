"""Distil a large image classifier into a small one, export it, and prove what ships.

The folders of this package are the floors of the pipeline, lowest first: ``bundle``; ``data``
and ``models``; ``runtimes``; ``distill``, ``export``, ``profiler`` and ``serve``; ``pipeline``;
``compare`` and ``demo``; ``cli``. An import never runs upward (``tests/test_floors.py`` holds the
table).
"""

__version__ = "0.1.0"

"""Distil a large image classifier into a small one, export it, and prove what ships.

The folders of this package are its rooms. ``CONTRIBUTING.md`` has the map, ``docs/design.md`` what
they rely on. An import never runs upward (``tests/test_floors.py`` holds the table).
"""

__version__ = "0.1.0"

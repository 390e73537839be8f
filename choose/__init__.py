"""The most accurate student within a budget of milliseconds and megabytes on this machine."""

"""How figures and counts are written for people."""

from __future__ import annotations


def figure(value: float) -> str:
    """Three significant digits, trailing zeros kept: 0.045, 1.60, 23.5, 424."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.2g}"


def cause(error: Exception) -> str:
    """What went wrong, in words: a system's error without its number and path."""
    reason = getattr(error, "reason", None)  # of what urllib could not reach
    system = reason if isinstance(reason, OSError) else error
    words = system.strerror if isinstance(system, OSError) else None
    return words or str(error) or type(error).__name__


def counted(number: float, noun: str) -> str:
    """``1 thread``, ``2 threads``, ``0.5 threads``: a count and its noun, which takes an s."""
    count = int(number) if number == int(number) else number
    return f"{count} {noun}" if number == 1 else f"{count} {noun}s"

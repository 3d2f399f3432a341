"""How numbers are written in the dock."""

from __future__ import annotations

__all__ = ["quantity"]


def quantity(number: int) -> str:
    """Return a number with narrow spaces, where no line breaks, between thousands."""
    return f"{number:,}".replace(",", "\u202f")

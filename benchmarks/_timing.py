"""Times of things that take turns, so that a busy machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["Times", "alternate", "ratio", "seconds", "threads"]

_Name = TypeVar("_Name", bound=Hashable)
#: Seconds of each action by its name, one for each round.
Times = dict[_Name, list[float]]

# Worker threads of one runtime go on spinning for a moment when its pass is over.
_PAUSE = 0.25


def seconds(action: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternate(
    actions: Mapping[_Name, Callable[[], object]], rounds: int, *, warm: bool = True
) -> Times[_Name]:
    """Time all actions in turn, round after round.

    Parameters
    ----------
    actions : mapping
        What to time, by name.
    rounds : int
        How often each is timed.
    warm : bool
        Whether each is called once before, untimed.
    """
    for action in actions.values() if warm else ():
        action()
    times: Times[_Name] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            time.sleep(_PAUSE)
            times[name].append(seconds(action))
    return times


def ratio(times: Times[_Name], one: _Name, other: _Name) -> float:
    """Return the ratio of the medians of two actions' times."""
    return statistics.median(times[one]) / statistics.median(times[other])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

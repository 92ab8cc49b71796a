"""CPU time of work that grows."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import TypeAlias

Work: TypeAlias = Callable[[], object]
TIMES = 4
MOST = 5.0
"""Factor that TIMES the input may cost: a little over TIMES, because larger data misses the caches."""
_ROUNDS = 12
_PASSES = 3


def cost_ratio(work_of: Callable[[int], Work], size: int) -> float:
    """Return how much more CPU time TIMES the input takes, the best of several interleaved passes: of as
    many rounds as it takes
    to come below MOST, since other processes only ever add to a time."""
    best = float("inf")
    for _ in range(_ROUNDS):
        small, large = float("inf"), float("inf")
        for _ in range(_PASSES):
            small = min(small, _seconds(work_of(size)))
            large = min(large, _seconds(work_of(TIMES * size)))
        best = min(best, large / small)
        if best <= MOST:
            break
    return best


def _seconds(work: Work) -> float:
    gc.collect()
    gc.disable()
    try:
        begin = time.process_time()
        work()
        return time.process_time() - begin
    finally:
        gc.enable()

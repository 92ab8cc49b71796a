"""Temporary faults: for the first requests only, or for some seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

import msgspec

from turnstream.simulator.options import SimulatorOptions

_KEPT = 1000
"""Models to remember."""


class _Outage:
    __slots__ = ("began", "requests")

    def __init__(self, began: float) -> None:
        self.began = began
        self.requests = 0


class Outages:
    """Decides if the temporary faults of one provider are over. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._outages: OrderedDict[str, _Outage] = OrderedDict()

    def options_now(self, name: str, options: SimulatorOptions) -> SimulatorOptions:
        """Return `options` for another request for `name`, without the fault if it is over."""
        if options.fault is None or not (options.times or options.lasting):
            return options
        outage = self._outages.get(name)
        if outage is None:
            outage = self._outages[name] = _Outage(self._clock())
            if len(self._outages) > _KEPT:
                self._outages.popitem(last=False)
        outage.requests += 1
        is_over = (options.times and outage.requests > options.times) or (
            options.lasting and self._clock() - outage.began >= options.lasting
        )
        return msgspec.structs.replace(options, fault=None) if is_over else options

    def clear(self) -> None:
        """Forget all requests, so that all faults start again."""
        self._outages.clear()

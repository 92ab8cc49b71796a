"""Circuit breakers: a model that keeps failing is left alone for a while (one breaker per provider and model).

    closed ── so many availability failures in a row ──► open ── its time is over ──► half-open: one probe at a time
       ▲                                                   ▲                                │
       └───────── the probe is answered ───────────────────┼────────────────────────────────┤
                                                           └──────── the probe fails ───────┘

Shared by all turns of an engine. Nothing runs in the background, and a model that never failed takes no memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

MAX_CIRCUITS = 1000
"""Models that are remembered; the one that failed the longest ago is forgotten first."""


class CircuitPolicy(NamedTuple):
    """`failures` in a row open a circuit, for `seconds`; a probe that nobody heard of again blocks others as long."""

    failures: int = 5
    seconds: float = 30.0


class _Circuit:
    __slots__ = ("failures", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.until: float | None = None
        """Open, or being probed, until then; None: closed."""


class Circuits:
    """The breakers of all models, by `provider/model`. `clock`: seconds."""

    def __init__(self, policy: CircuitPolicy | None = None, clock: Callable[[], float] = monotonic) -> None:
        self.policy = policy or CircuitPolicy()
        self._clock = clock
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._circuits)

    def closed_for(self, name: str) -> float:
        """Seconds until the model may be called again; 0.0: now."""
        circuit = self._circuits.get(name)
        if circuit is None or circuit.until is None:
            return 0.0
        return max(0.0, circuit.until - self._clock())

    def is_open(self, name: str) -> bool:
        """Whether a call that is admitted now would be the probe."""
        circuit = self._circuits.get(name)
        return circuit is not None and circuit.until is not None

    def admit(self, name: str) -> float:
        """As `closed_for`; where it says now and the circuit was open, the caller's call is the probe, and whoever comes
        next is refused until it is heard of: every probe is to be followed by one of the calls below."""
        wait = self.closed_for(name)
        circuit = self._circuits.get(name)
        if not wait and circuit is not None and circuit.until is not None:
            circuit.until = self._clock() + self.policy.seconds
        return wait

    def answered(self, name: str) -> None:
        """The model has begun to answer: it is there. Only one more failure, and it is left alone again."""
        circuit = self._circuits.get(name)
        if circuit is not None and circuit.until is not None:
            circuit.until = None
            circuit.failures = self.policy.failures - 1

    def succeeded(self, name: str) -> None:
        """The model gave a whole answer, or one that it meant, such as a refusal."""
        self._circuits.pop(name, None)

    def failed(self, name: str) -> None:
        """The model could not be reached, or broke off."""
        circuit = self._circuits.setdefault(name, _Circuit())
        self._circuits.move_to_end(name)
        circuit.failures += 1
        if circuit.failures >= self.policy.failures:
            circuit.until = self._clock() + self.policy.seconds
        if len(self._circuits) > MAX_CIRCUITS:
            self._circuits.popitem(last=False)

    def abandoned(self, name: str) -> None:
        """The probe was given up before anything was known of it: the next call may be one."""
        circuit = self._circuits.get(name)
        if circuit is not None and circuit.until is not None:
            circuit.until = min(circuit.until, self._clock())

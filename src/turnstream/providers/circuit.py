"""Circuit breakers: a model that keeps failing is left alone for a while, by one owner or by all.

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
"""Models that are remembered, and models with an owner; the one that failed the longest ago is forgotten first."""


class CircuitPolicy(NamedTuple):
    """`failures` in a row open a circuit, for `seconds`; a probe that nobody heard of again blocks others as long."""

    failures: int = 5
    seconds: float = 30.0


class _Circuit:
    """Failures in a row that count against one owner's calls of a model, or against all calls of it."""

    __slots__ = ("failures", "owners", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.until: float | None = None
        """Open, or being probed, until then; None: closed."""
        self.owners: dict[str, int] = {}
        """Failures by owner; empty for the circuit of one owner."""


class Circuits:
    """The breakers of all models, by `provider/model`. `clock`: seconds.

    `owner` is the one whose call it is; None: the call is no owner's in particular. A model that fails one owner alone, as
    requests of that owner make it fail, is closed to that owner alone. For all owners it takes the failures of two or more,
    of which no owner brings more than half.
    """

    def __init__(self, policy: CircuitPolicy | None = None, clock: Callable[[], float] = monotonic) -> None:
        self.policy = policy or CircuitPolicy()
        self._clock = clock
        self._of_all: OrderedDict[str, _Circuit] = OrderedDict()
        self._of_owners: OrderedDict[tuple[str, str], _Circuit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of_all) + len(self._of_owners)

    def closed_for(self, name: str, owner: str | None = None) -> float:
        """Return the seconds until the model may be called again; 0.0: now."""
        now = self._clock()
        return max((0.0, *(until - now for until in self._open(name, owner))))

    def is_open(self, name: str, owner: str | None = None) -> bool:
        """Return True if a call that is admitted now would be the probe."""
        return bool(self._open(name, owner))

    def admit(self, name: str, owner: str | None = None) -> float:
        """Return what `closed_for` does. If that is now and a circuit was open, the caller's call is the probe, and the next
        caller is refused until its result is known: every probe is to be followed by one of the calls below."""
        wait = self.closed_for(name, owner)
        if not wait:
            for circuit in self._circuits(name, owner):
                if circuit.until is not None:
                    circuit.until = self._clock() + self.policy.seconds
        return wait

    def answered(self, name: str, owner: str | None = None) -> None:
        """The model has begun to answer: it is there. Only one more failure, and it is left alone again."""
        for circuit in self._circuits(name, owner):
            if circuit.until is not None:
                circuit.until = None
                circuit.failures = self.policy.failures - 1
                circuit.owners.clear()

    def succeeded(self, name: str, owner: str | None = None) -> None:
        """The model gave a whole answer, or one that it meant, such as a refusal."""
        self._of_all.pop(name, None)
        if owner is not None:
            self._of_owners.pop((name, owner), None)

    def failed(self, name: str, owner: str | None = None) -> None:
        """The model could not be reached, or broke off."""
        if owner is not None:
            circuit = self._of_owners.setdefault((name, owner), _Circuit())
            circuit.failures += 1
            if circuit.failures >= self.policy.failures:
                circuit.until = self._clock() + self.policy.seconds
            self._of_owners.move_to_end((name, owner))
            if len(self._of_owners) > MAX_CIRCUITS:
                self._of_owners.popitem(last=False)
        circuit = self._of_all.setdefault(name, _Circuit())
        self._count(circuit, owner)
        if circuit.until is not None or self._is_everyones(circuit):
            circuit.until = self._clock() + self.policy.seconds
        self._of_all.move_to_end(name)
        if len(self._of_all) > MAX_CIRCUITS:
            self._of_all.popitem(last=False)

    def abandoned(self, name: str, owner: str | None = None) -> None:
        """The probe was given up before anything was known of it: the next call may be one."""
        for circuit in self._circuits(name, owner):
            if circuit.until is not None:
                circuit.until = min(circuit.until, self._clock())

    def _count(self, circuit: _Circuit, owner: str | None) -> None:
        """Count a failure against all calls: of an owner up to half of what opens the circuit."""
        if owner is None:
            circuit.failures += 1
        elif circuit.until is None:  # an open circuit counts no more, so that its table has a bound
            count = circuit.owners.get(owner, 0)
            if count < max(1, self.policy.failures // 2):
                circuit.owners[owner] = count + 1

    def _is_everyones(self, circuit: _Circuit) -> bool:
        count = circuit.failures + sum(circuit.owners.values())
        return count >= self.policy.failures and (circuit.failures > 0 or len(circuit.owners) > 1)

    def _circuits(self, name: str, owner: str | None) -> list[_Circuit]:
        found = [self._of_all.get(name), None if owner is None else self._of_owners.get((name, owner))]
        return [circuit for circuit in found if circuit is not None]

    def _open(self, name: str, owner: str | None) -> list[float]:
        return [circuit.until for circuit in self._circuits(name, owner) if circuit.until is not None]

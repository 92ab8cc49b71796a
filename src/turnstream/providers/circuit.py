"""Circuit breakers: a model that fails repeatedly is not called for a while, by one owner or by all owners.

    closed ── enough availability failures in a row ──► open ── time passes ──► half-open: one probe at a time
       ▲                                                  ▲                         │
       └───────── the probe is answered ──────────────────┼─────────────────────────┤
                                                          └──── the probe fails ────┘

All turns of an engine share them. They need no background task, and no memory for a model that has not
failed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

MAX_CIRCUITS = 1000
"""Models, and pairs of model and owner, to remember.

The one with the oldest last failure is evicted first.
"""


class CircuitPolicy(NamedTuple):
    """Thresholds of all circuits."""

    failures: int = 5
    """Failures in a row that open a circuit."""
    seconds: float = 30.0
    """Seconds that a circuit stays open. A probe without a result blocks other calls for as long."""


class _Circuit:
    """Failures in a row of one model: for one owner's calls, or for all calls."""

    __slots__ = ("failures", "owners", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.until: float | None = None
        """Time until which the circuit is open or being probed. None if it is closed."""
        self.owners: dict[str, int] = {}
        """Failures by owner. Empty in the circuit of one owner."""


class Circuits:
    """Holds the breakers of all models, by `provider/model`.

    In all methods `owner` is the owner of the call, or None for a call without a particular owner. A model
    that fails for one owner only, because of that owner's requests, is blocked for that owner only. It is
    blocked for all owners if two or more of them have failures. One owner counts for half of the threshold at
    most.

    Args:
        policy: Thresholds. None: the defaults.
        clock: Returns seconds.
    """

    def __init__(self, policy: CircuitPolicy | None = None, clock: Callable[[], float] = monotonic) -> None:
        self.policy = policy or CircuitPolicy()
        self._clock = clock
        self._of_all: OrderedDict[str, _Circuit] = OrderedDict()
        self._of_owners: OrderedDict[tuple[str, str], _Circuit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of_all) + len(self._of_owners)

    def closed_for(self, name: str, owner: str | None = None) -> float:
        """Return the seconds until the model may be called again. 0.0 means now."""
        now = self._clock()
        return max((0.0, *(until - now for until in self._open(name, owner))))

    def is_open(self, name: str, owner: str | None = None) -> bool:
        """Return True if a call that is admitted now would be the probe."""
        return bool(self._open(name, owner))

    def admit(self, name: str, owner: str | None = None) -> float:
        """Return the same as `closed_for`, and reserve the probe.

        If the result is 0.0 and a circuit was open, the caller's call is the probe. Other callers are refused
        until its result is known, so the caller must report it with one of the methods below.
        """
        wait = self.closed_for(name, owner)
        if not wait:
            for circuit in self._circuits(name, owner):
                if circuit.until is not None:
                    circuit.until = self._clock() + self.policy.seconds
        return wait

    def answered(self, name: str, owner: str | None = None) -> None:
        """Close the circuits: the model has begun to answer. One more failure opens them again."""
        for circuit in self._circuits(name, owner):
            if circuit.until is not None:
                circuit.until = None
                circuit.failures = self.policy.failures - 1
                circuit.owners.clear()

    def succeeded(self, name: str, owner: str | None = None) -> None:
        """Forget the failures: the model gave a whole answer, or a deliberate one such as a refusal."""
        self._of_all.pop(name, None)
        if owner is not None:
            self._of_owners.pop((name, owner), None)

    def failed(self, name: str, owner: str | None = None) -> None:
        """Count a failure: the model could not be reached, or its answer broke off."""
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
        if circuit.until is not None or self._concerns_all_owners(circuit):
            circuit.until = self._clock() + self.policy.seconds
        self._of_all.move_to_end(name)
        if len(self._of_all) > MAX_CIRCUITS:
            self._of_all.popitem(last=False)

    def abandoned(self, name: str, owner: str | None = None) -> None:
        """Release the probe: its call was cancelled without a result. The next call may be the probe."""
        for circuit in self._circuits(name, owner):
            if circuit.until is not None:
                circuit.until = min(circuit.until, self._clock())

    def _count(self, circuit: _Circuit, owner: str | None) -> None:
        """Count a failure against all calls. Failures of one owner count up to half of the threshold."""
        if owner is None:
            circuit.failures += 1
        elif circuit.until is None:  # an open circuit does not count, which bounds its table
            count = circuit.owners.get(owner, 0)
            if count < max(1, self.policy.failures // 2):
                circuit.owners[owner] = count + 1

    def _concerns_all_owners(self, circuit: _Circuit) -> bool:
        count = circuit.failures + sum(circuit.owners.values())
        return count >= self.policy.failures and (circuit.failures > 0 or len(circuit.owners) > 1)

    def _circuits(self, name: str, owner: str | None) -> list[_Circuit]:
        found = [self._of_all.get(name), None if owner is None else self._of_owners.get((name, owner))]
        return [circuit for circuit in found if circuit is not None]

    def _open(self, name: str, owner: str | None) -> list[float]:
        return [circuit.until for circuit in self._circuits(name, owner) if circuit.until is not None]

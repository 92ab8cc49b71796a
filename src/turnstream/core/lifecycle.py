"""The life of a turn, as one table.

    pending ──► streaming ◄──► waiting
       │            │             │
       └────────────┴─────────────┴──► complete | error | cancelled      (final)

Only streaming leads to complete: a turn that never began cannot succeed.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

TurnStatus: TypeAlias = Literal["pending", "streaming", "waiting", "complete", "error", "cancelled"]

TRANSITIONS: dict[TurnStatus, frozenset[TurnStatus]] = {
    "pending": frozenset({"streaming", "error", "cancelled"}),
    "streaming": frozenset({"waiting", "complete", "error", "cancelled"}),
    "waiting": frozenset({"streaming", "error", "cancelled"}),
    "complete": frozenset(),
    "error": frozenset(),
    "cancelled": frozenset(),
}
TERMINAL_STATUSES: frozenset[TurnStatus] = frozenset(s for s, after in TRANSITIONS.items() if not after)


def has_executor(status: TurnStatus) -> bool:
    """Return True for the status of a turn that a task writes. A waiting or ended turn has no task.

    An unknown status, as in a damaged row, counts as running.
    """
    return status != "waiting" and status not in TERMINAL_STATUSES


def sources_of(after: TurnStatus) -> frozenset[TurnStatus]:
    """Return the statuses from which `after` can be reached: the WHERE of a compare-and-set."""
    return frozenset(status for status, targets in TRANSITIONS.items() if after in targets)

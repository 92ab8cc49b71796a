"""Objects that start anew in a forked process (gunicorn's preload, Celery, multiprocessing).

A fork copies the memory and one thread. Event loops of other threads stand still in the child, locks that other threads
held stay locked, and sockets are shared with the parent, so the child must use none of them.
"""

from __future__ import annotations

import os
from typing import Any, Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """An object that holds locks, loops or connections across a fork."""

    def renew_in_child(self) -> None:
        """Replace what belongs to the parent process. Runs in the child, before anything else does."""
        ...


_renewables: WeakSet[Renewable] = WeakSet()
_of_parents: list[Any] = []


def renew_after_fork(renewable: Renewable) -> None:
    """Have `renewable.renew_in_child()` called in each process that is forked while the object lives."""
    _renewables.add(renewable)


def keep_unused(*things: object) -> None:
    """Keep what belongs to the parent process as long as this one lives.

    A finalizer of it would close sockets that both processes share, or complain of tasks that never end here.
    """
    _of_parents.extend(things)


def _renew_all() -> None:
    for renewable in list(_renewables):
        renewable.renew_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)

"""Renewal of objects in a forked process (gunicorn's preload, Celery, multiprocessing).

A fork copies the memory and one thread. In the child, event loops of other threads do not run, locks that
other threads held stay locked, and sockets are shared with the parent. So the child must not use any of
these.
"""

from __future__ import annotations

import os
from typing import Any, Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """An object that holds locks, loops or connections across a fork."""

    def renew_in_child(self) -> None:
        """Replace the objects that belong to the parent process.

        Called in the child before any other code runs.
        """
        ...


_renewables: WeakSet[Renewable] = WeakSet()
_of_parents: list[Any] = []


def renew_after_fork(renewable: Renewable) -> None:
    """Have `renewable.renew_in_child()` called in each process that is forked while the object lives."""
    _renewables.add(renewable)


def keep_unused(*things: object) -> None:
    """Keep objects of the parent process alive until this process ends.

    Their finalizers would close sockets that both processes share, or warn about tasks that never end here.
    """
    _of_parents.extend(things)


def _renew_all() -> None:
    for renewable in list(_renewables):
        renewable.renew_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)

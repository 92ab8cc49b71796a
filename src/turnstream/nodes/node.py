"""The identity of this process among the nodes that share its database."""

from __future__ import annotations

import os
import socket
from math import inf

from turnstream.core.identifiers import new_id
from turnstream.nodes.lease import Lease
from turnstream.store.journal.pages import LOCAL_NODE
from turnstream.telemetry.measures import NodeMeasures


class OwnNode:
    """This process, as one of the nodes that write a database.

    Attributes:
        id: Its id. The rows of its turns and the pages of its journal have it.
        is_shared: False if the process has its database for itself. Then it has a fixed id, and no lease
            that could lapse.
        lease: Its right to write its turns.
        measures: Counts of recoveries, and of the lag behind other nodes.

    Args:
        lease_seconds: Seconds after its last heartbeat in which no other node claims its turns.
    """

    def __init__(self, *, is_shared: bool = False, lease_seconds: float = inf) -> None:
        self.is_shared = is_shared
        self.id = LOCAL_NODE
        self.lease = Lease(lease_seconds if is_shared else inf)
        self.measures = NodeMeasures()

    def begin(self) -> None:
        """Take a new id, if the database is shared. Each start is another node."""
        if self.is_shared:
            self.id = new_id()
            self.lease.begin()

    @property
    def address(self) -> str:
        """Host and process id, for logs."""
        return f"{socket.gethostname()} (pid {os.getpid()})"

"""Places where a server process kills itself, so that a crash happens exactly there."""

from __future__ import annotations

import os
import signal
from typing import Any, Literal, NamedTuple, Never, TypeAlias

from turnstream.store.base import Operation
from turnstream.store.operations.content import SaveBlock

Moment = Literal["before", "within", "after"]
"""Stage of a write: not yet given to the writer; applied but not committed; committed but not acknowledged.
"""


class KillPoint(NamedTuple):
    """The write number `occurrence` (from 1) of a class of operations. For SaveBlock, only blocks of one type
    count if a type is given."""

    operation: str
    moment: Moment
    occurrence: int = 1
    block_type: str | None = None

    def counts(self, operation: Operation[Any]) -> bool:
        if type(operation).__name__ != self.operation:
            return False
        return self.block_type is None or (
            isinstance(operation, SaveBlock) and operation.row.block.block_type == self.block_type
        )


class InTool(NamedTuple):
    """Inside a running tool: in call number `call` (from 1) of the process, at piece number `step` of its
    progress."""

    call: int
    step: int


Death: TypeAlias = KillPoint | InTool


def die() -> Never:
    """End this process like `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL returns to nobody")

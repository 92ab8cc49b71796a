"""The ledger of tool calls: a call is noted durably before it runs, and its result before the model sees it.

So a call runs at most once, also if the process dies. A call that has begun and has no result may have had
its effect. It is not run again unless its tool is idempotent. The model gets an error that says so.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from turnstream.core.blocks import Block
from turnstream.tools.base import ToolOutput

OUTCOME_UNKNOWN = ToolOutput(
    "the outcome of this call is not known: the server stopped while it ran. It was not run again. "
    "Find out what it did before you call again",
    is_error=True,
)
"""Result for the model of a call that may have run."""


class LedgerEntry(NamedTuple):
    """A call in the ledger.

    Attributes:
        key: Name of the call, the same in each attempt to run it. Empty without a ledger.
        result: Result to give in place of a run, or None if the call is to be run now.
    """

    key: str
    result: ToolOutput | None = None


class ToolLedger(Protocol):
    """A seam: the ledger of one turn."""

    async def begin(self, call: Block, *, is_idempotent: bool) -> LedgerEntry:
        """Note that a call begins. Return its entry after the commit.

        Args:
            call: A stored tool_use block.
            is_idempotent: True if the call may be run again after an attempt without a result.

        Raises Fenced if another executor has the turn, and StoreError: the call must not run then.
        """
        ...

    async def end(self, entry: LedgerEntry, output: ToolOutput) -> None:
        """Note the result of a call that was run. Return after the commit. Raises StoreError."""
        ...


class NoLedger:
    """The ledger of a turn without rows: its calls end with its process."""

    async def begin(self, call: Block, *, is_idempotent: bool) -> LedgerEntry:  # noqa: ARG002 - the seam's
        """Return an entry without a key."""
        return LedgerEntry("")

    async def end(self, entry: LedgerEntry, output: ToolOutput) -> None:
        """Do nothing."""

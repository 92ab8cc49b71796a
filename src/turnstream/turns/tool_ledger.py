"""The ledger of a turn's tool calls, in the store."""

from __future__ import annotations

import logging
from asyncio import sleep
from typing import TypeVar

from turnstream.core.blocks import Block, call_id
from turnstream.core.identifiers import new_id
from turnstream.errors import Fenced, StoreError
from turnstream.safety.rules import RedactionFilter
from turnstream.safety.text_redactor import redact_text
from turnstream.store.base import Operation, Store, TurnRecord
from turnstream.store.ledger.queries import ToolRun
from turnstream.store.operations.tool_runs import BeginToolRun, EndToolRun
from turnstream.tools.base import ToolOutput
from turnstream.tools.ledger import OUTCOME_UNKNOWN, LedgerEntry
from turnstream.tools.runner import tool_name
from turnstream.turns.clock import now_microseconds
from turnstream.turns.writing import STORE_RETRY_DELAY

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class StoredLedger:
    """A `ToolLedger` in the store.

    Args:
        turn: The turn, with the generation of its executor.
        redaction: Rules for what is stored and shown. None: no rules.
    """

    def __init__(self, store: Store, turn: TurnRecord, redaction: RedactionFilter | None) -> None:
        self._store = store
        self._turn_id = turn.id
        self._generation = turn.generation
        self._redaction = redaction
        self._running: dict[str, ToolRun] = {}
        """Calls that this executor runs, by their keys."""

    async def begin(self, call: Block, *, is_idempotent: bool) -> LedgerEntry:
        """Note that a call begins. See `ToolLedger.begin`."""
        attempt = new_id()
        run = await self._write(
            BeginToolRun(
                turn_id=self._turn_id,
                generation=self._generation,
                sequence=call.sequence,
                attempt=attempt,
                tool_use_id=call_id(call),
                tool_name=tool_name(call),
                now=now_microseconds(),
                may_repeat=is_idempotent,
            )
        )
        if run.output is not None:
            return LedgerEntry(run.key, ToolOutput(run.output, is_error=bool(run.is_error)))
        if run.attempt != attempt:
            logger.warning("%s: the outcome of its call of %s is not known", run.turn_id, run.tool_name)
            return LedgerEntry(run.key, OUTCOME_UNKNOWN)
        self._running[run.key] = run
        return LedgerEntry(run.key)

    async def end(self, entry: LedgerEntry, output: ToolOutput) -> None:
        """Note the result of a call. See `ToolLedger.end`."""
        run = self._running.pop(entry.key)
        text = output.text if self._redaction is None else redact_text(output.text, self._redaction)
        await self._write(
            EndToolRun(
                turn_id=run.turn_id,
                first_seq=run.first_seq,
                attempt=run.attempt,
                output=text,
                is_error=output.is_error,
            )
        )

    async def _write(self, operation: Operation[Value]) -> Value:
        """Write durably, with one retry. Raises StoreError."""
        try:
            return await self._store.write(operation)
        except Fenced:
            raise
        except StoreError as error:
            logger.warning("turn %s: storage failed, trying once more: %s", self._turn_id, error)
            await sleep(STORE_RETRY_DELAY)
            return await self._store.write(operation)

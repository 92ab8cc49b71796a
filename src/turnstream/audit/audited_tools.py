"""A runner of tools whose calls leave records in the audit log."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from turnstream.audit.records import AuditRecord
from turnstream.audit.trail import AuditTrail
from turnstream.core.blocks import Block
from turnstream.core.tool_input import call_digest
from turnstream.errors import Unavailable
from turnstream.tools.base import ToolContext, ToolOutput
from turnstream.tools.runner import ToolRunner, tool_name


class AuditedTools(ToolRunner):
    """Runs tools as `runner` does. A call runs only after its record is durable.

    Args:
        runner: Runs the calls.
        trail: Takes the records.
    """

    def __init__(self, runner: ToolRunner, trail: AuditTrail) -> None:
        super().__init__(runner.tools, runner.limits)
        self._runner = runner
        self._trail = trail

    async def run(self, call: Block, context: ToolContext, *, offered: Sequence[str]) -> ToolOutput:
        """Return the result of `call`. See `ToolRunner.run`."""
        name = tool_name(call)
        known = self.tools.get(name)
        asks = known is not None and known.ask != "never"
        record = AuditRecord(
            act="tool.run",
            owner=context.owner,
            turn=context.turn_id,
            tool=name,
            decision="approved" if asks else "allowed",
            details={"call": context.tool_use_id, "input_sha256": call_digest(call)},
        )
        try:
            await self._trail.require(msgspec.structs.replace(record, outcome="begun"))
        except Unavailable as error:
            return ToolOutput(f"the tool was not run: {error.message}", is_error=True)
        outcome = "cancelled"
        characters = 0
        try:
            output = await self._runner.run(call, context, offered=offered)
            outcome, characters = ("error" if output.is_error else "done"), len(output.text)
            return output
        finally:
            details = {**record.details, "result_characters": characters}
            self._trail.note(msgspec.structs.replace(record, outcome=outcome, details=details))

"""A runner of tools whose calls have spans, if the settings ask for them."""

from __future__ import annotations

from collections.abc import Sequence

from turnstream.config import TelemetrySettings
from turnstream.core.blocks import Block
from turnstream.telemetry.tracing import Tracing
from turnstream.tools.base import ToolContext, ToolOutput
from turnstream.tools.runner import ToolRunner, tool_name


class TracedTools(ToolRunner):
    """Runs tools as `runner` does. Spans that a tool makes are children of its call's span."""

    def __init__(self, runner: ToolRunner, tracing: Tracing) -> None:
        super().__init__(runner.tools, runner.limits)
        self._runner = runner
        self._tracing = tracing

    async def run(self, call: Block, context: ToolContext, *, offered: Sequence[str]) -> ToolOutput:
        """Return the result of `call`. See `ToolRunner.run`."""
        name = tool_name(call)
        with self._tracing.tool(name if name in self.tools else "unknown", context.tool_use_id) as span:
            span.note_arguments((call.content or {}).get("input"))
            output = await self._runner.run(call, context, offered=offered)
            span.note_result(output.text, is_error=output.is_error)
            return output


def traced_tools(settings: TelemetrySettings | None, runner: ToolRunner) -> tuple[Tracing | None, ToolRunner]:
    """Return the tracing, or None if it is off, and a runner whose calls have spans if it is on.

    Raises ConfigurationError if OpenTelemetry is not installed.
    """
    if settings is None or not settings.opentelemetry:
        return None, runner
    tracing = Tracing(records_content=settings.record_content)
    return tracing, TracedTools(runner, tracing)

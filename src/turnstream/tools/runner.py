"""Calls of tools: they have checked arguments and a deadline, and always give the model a result."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from turnstream.core.admission import InvalidJson, plain_json, repair_text
from turnstream.core.blocks import Block
from turnstream.tools.base import Tool, ToolContext, ToolError, ToolOutput
from turnstream.tools.schema import unbound
from turnstream.tools.threads import NoThread, in_thread

logger = logging.getLogger(__name__)

RESULT_LIMIT = 256 * 1024
"""Characters of a result for the model. The rest is cut off with a remark."""
STOP_SECONDS = 1.0
"""Seconds for a function to clean up after its deadline or a cancellation."""


class ToolLimits(NamedTuple):
    """Limits of tools."""

    timeout: float = 30.0
    """Seconds of one call, unless the tool sets its own."""
    parallel: int = 8
    """Calls of one turn that may run at the same time."""
    soft_rounds: int = 8
    """Rounds of tools in a turn after which the model is asked to finish."""
    rounds: int = 10
    """Rounds of tools in a turn after which the model must finish."""
    approval: float = 3600.0
    """Seconds that a call waits for its approval. Then it counts as denied."""


class ToolRunner:
    """Runs calls of some tools. With `debug` the model, and so the user, gets the messages of exceptions."""

    def __init__(
        self, tools: Mapping[str, Tool], limits: ToolLimits | None = None, *, debug: bool = False
    ) -> None:
        self.tools = dict(tools)
        self.limits = limits or ToolLimits()
        self._debug = debug

    def may_start_early(self, call: Block) -> bool:
        """Return True if the call may run before the model's answer is known to be complete."""
        known = self.tools.get(tool_name(call))
        return known is not None and known.idempotent and known.ask == "never"

    def prepares(self, name: str) -> bool:
        """Return True if the tool has a `prepare`."""
        known = self.tools.get(name)
        return known is not None and known.prepare is not None

    def asks(self, name: str) -> bool:
        """Return True if a call of the tool may need an approval."""
        known = self.tools.get(name)
        return known is not None and known.ask != "never"

    async def prepare(self, name: str, context: ToolContext) -> Any:
        """Return the result of the tool's `prepare` for a call that the model has begun.

        Return None if the tool has none, or if it fails or exceeds its deadline. Only a cancellation raises.
        """
        known = self.tools[name]
        if known.prepare is None:
            return None
        task = await within(self.timeout_of(known), functools.partial(known.prepare, context), name)
        if task is None or task.cancelled():
            logger.warning("the preparation of the tool %s did not finish", name)
            return None
        if (error := task.exception()) is not None:
            logger.warning("preparing the tool %s failed", name, exc_info=error)
            return None
        return task.result()

    async def run(self, call: Block, context: ToolContext, *, offered: Sequence[str]) -> ToolOutput:
        """Return the result of `call`. Only a cancellation raises.

        Args:
            call: A stopped tool_use block.
            context: Context of the call.
            offered: Names of the tools that the model was given.
        """
        name = tool_name(call)
        known = self.tools.get(name)
        if known is None or name not in offered:
            others = ", ".join(offered) or "none"
            fault = (
                f"there is no tool called {name}" if name else "the call named no tool, and nothing was run"
            )
            return ToolOutput(f"{fault}; there are: {others}", is_error=True)
        if (fault := unusable(call)) is not None:
            return ToolOutput(fault, is_error=True)
        try:
            arguments = known.arguments.read(cast("dict[str, Any]", (call.content or {})["input"]))
        except ValueError as error:
            return ToolOutput(
                f"the arguments are not valid, and the tool was not run: {error}", is_error=True
            )
        if known.context is not None:
            arguments[known.context] = context
        return await self._run(known, arguments)

    async def _run(self, known: Tool, arguments: dict[str, Any]) -> ToolOutput:
        timeout = self.timeout_of(known)
        task = await within(timeout, functools.partial(known.function, **arguments), known.name)
        if task is None:
            return ToolOutput(f"the tool did not finish within {timeout:g} s, and was stopped", is_error=True)
        return self._output(known.name, task)

    def timeout_of(self, known: Tool) -> float:
        """Return the seconds that a call of the tool may take."""
        return known.timeout or self.limits.timeout

    def _output(self, name: str, task: asyncio.Future[Any]) -> ToolOutput:
        if task.cancelled():
            return ToolOutput("the tool was cancelled", is_error=True)
        error = task.exception()
        try:
            if error is None:
                return as_output(task.result())
        except (TypeError, ValueError, RecursionError) as failure:
            error = failure
        if isinstance(error, NoThread):
            return ToolOutput("too many tools are running: try again later", is_error=True)
        if isinstance(error, ToolError):
            return _cut(ToolOutput(str(error) or "the tool failed", is_error=True))
        logger.warning("the tool %s failed", name, exc_info=error)
        what = f"{type(error).__name__}: {error}" if self._debug else type(error).__name__
        return _cut(ToolOutput(f"the tool failed ({what})", is_error=True))


async def within(seconds: float, function: Callable[[], Any], name: str) -> asyncio.Task[Any] | None:
    """Run a tool's function. Return its finished task, or None if it exceeded `seconds` and was cancelled."""
    task = asyncio.get_running_loop().create_task(_value_of(function, name), name=f"tool {name}")
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _stop(task, name)
        raise
    if not done:
        await _stop(task, name)
        return None
    return task


async def _value_of(function: Callable[[], Any], name: str) -> Any:
    """Return the function's value. A sync function runs in a thread.

    A coroutine that a sync function returns is awaited here. SystemExit becomes RuntimeError: in a task it
    would end the event loop, and with it every stream.
    """
    try:
        value = function() if _is_async(function) else await in_thread(function, f"tool {name}")
        return await value if inspect.isawaitable(value) else value
    except SystemExit as error:
        raise RuntimeError("the tool tried to end the process") from error


def _is_async(function: Callable[..., Any]) -> bool:
    plain = unbound(function)
    return inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(
        getattr(plain, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


def tool_name(call: Block) -> str:
    return str((call.content or {}).get("tool_name") or "")


def unusable(call: Block) -> str | None:
    """Return the reason, for the model, why a call must not run, or None if it may run."""
    content = call.content or {}
    if call.partial:
        return "the call was cut off, and nothing was run: call again"
    if not isinstance(content.get("input"), dict):
        why = content.get("input_error") or "they are missing"
        return f"the arguments cannot be read, and nothing was run: {why}"
    return None


def as_output(value: Any) -> ToolOutput:
    """Return the value that a function returned, as the model gets it.

    Raises TypeError if the value is not JSON or nests too deeply.
    """
    if isinstance(value, ToolOutput):
        return _cut(value)
    if value is None:
        return ToolOutput("")
    if isinstance(value, str):
        return _cut(ToolOutput(value))
    try:
        plain = plain_json(value)
    except InvalidJson as error:
        raise TypeError(f"the tool returned {error}") from error
    return _cut(ToolOutput(msgspec.json.encode(plain).decode()))


def _cut(output: ToolOutput) -> ToolOutput:
    """Return the output with its text mended, and cut if it is too long."""
    output = output._replace(text=repair_text(output.text))
    left_out = len(output.text) - RESULT_LIMIT
    if left_out <= 0:
        return output
    return output._replace(text=f"{output.text[:RESULT_LIMIT]}\n… ({left_out} more characters were cut off)")


async def _stop(task: asyncio.Future[Any], name: str) -> None:
    """Cancel a call and give it time to clean up. If it does not end, log that and abandon it."""
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=STOP_SECONDS)
    if not done:
        logger.warning("the tool %s does not end, and is abandoned", name)
        task.add_done_callback(_retrieve)
    elif not task.cancelled():
        _retrieve(task)


def _retrieve(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.info("a tool that was stopped ended with %r", error)

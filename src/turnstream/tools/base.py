"""What a tool is: a Python function, and what the model is told of it.

    @tool(timeout=5)
    async def weather(city: str, days: int = 1) -> str:
        '''Tell the weather.

        Args:
            city: Where.
            days: For how many days.
        '''

A plain function is a tool too; the decorator is for its options. A parameter annotated with `ToolContext` gets one, and the
model is not told of it. What a function returns becomes the result: text as it is, any other value as JSON: models,
dataclasses, tuples, sets, dates, decimals, UUIDs, paths and enums too. A plain function
may return a coroutine, which is awaited. A `functools.partial` is a tool whose bound arguments are no business of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

from turnstream.core.admission import mended
from turnstream.errors import ConfigurationError
from turnstream.tools.schema import Arguments, describe, unbound
from turnstream.wires.base import ToolDefinition

ToolFunction: TypeAlias = Callable[..., Any]
Function = TypeVar("Function", bound=ToolFunction)
Prepare: TypeAlias = "Callable[[ToolContext], Any]"

PROGRESS_LIMIT = 4096
"""Characters of one piece of progress; more of it is cut off."""
_OPTIONS = "__turnstream_tool__"


class ToolError(Exception):
    """Raise it in a tool to tell the model what went wrong, in these words. Of any other exception the model is told
    only its type, unless details are shown (`server.debug`)."""


class ToolOutput(NamedTuple):
    """The result of a call, as the model is told it."""

    text: str
    is_error: bool = False


class ToolContext:
    """The call that a tool is run for. `owner`, `metadata`: of the turn, as the host application gave them; `prepared`:
    what the tool's `prepare` gave; None without one, or where it failed or was not called."""

    __slots__ = ("_show", "metadata", "owner", "prepared", "tool_use_id", "turn_id")

    def __init__(
        self,
        tool_use_id: str,
        turn_id: str,
        owner: str,
        metadata: dict[str, Any],
        show: Callable[[str, str], None],
    ) -> None:
        self.tool_use_id = tool_use_id
        self.turn_id = turn_id
        self.owner = owner
        self.metadata = metadata
        self.prepared: Any = None
        self._show = show

    def progress(self, text: str) -> None:
        """Show watchers a piece of what the tool puts out, while it runs. May be called from any thread."""
        self._show(self.tool_use_id, mended(text[:PROGRESS_LIMIT]))


class ToolOptions(NamedTuple):
    """What `tool` sets; see there."""

    name: str | None = None
    description: str | None = None
    timeout: float | None = None
    idempotent: bool = False
    prepare: Prepare | None = None


class Tool(NamedTuple):
    """A function with what the model is told of it. `context`: the parameter that gets the ToolContext."""

    definition: ToolDefinition
    function: ToolFunction
    arguments: Arguments
    context: str | None = None
    timeout: float | None = None
    idempotent: bool = False
    prepare: Prepare | None = None

    @property
    def name(self) -> str:
        """By which the model calls it."""
        return self.definition.name

    @classmethod
    def of(cls, function: ToolFunction | Tool) -> Tool:
        """The tool that a function is. Raises ConfigurationError for one that no model could call."""
        if isinstance(function, Tool):
            return function
        options: ToolOptions = getattr(
            function, _OPTIONS, getattr(unbound(function), _OPTIONS, ToolOptions())
        )
        found = describe(function, ToolContext, name=options.name, description=options.description)
        return cls(
            found.definition,
            function,
            found.arguments,
            found.context,
            options.timeout,
            options.idempotent,
            options.prepare,
        )


@overload
def tool(function: Function, /) -> Function: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    idempotent: bool = False,
    prepare: Prepare | None = None,
) -> Callable[[Function], Function]: ...
def tool(function: ToolFunction | None = None, /, **options: Any) -> Any:
    """Mark a function as a tool, and set what differs from its own name, docstring and the engine's limits.

    `timeout` is in seconds. `idempotent`: to run it and throw the result away does no harm, so it starts as soon as its
    arguments are there, while the model is still answering; any other waits until the answer is known to be whole.

    `prepare` is called with the call's ToolContext as soon as the model begins to call the tool, before any argument is
    there: to open a connection, to load a table. The tool finds what it returned in `context.prepared`. It has the tool's
    time, and it may fail: the tool then runs without. If the call never comes, or must not be run, it is cancelled, and
    what it returned is dropped; so it should change nothing, and return nothing that has to be closed.
    """

    def mark(marked: ToolFunction) -> ToolFunction:
        setattr(marked, _OPTIONS, ToolOptions(**options))
        return marked

    return mark if function is None else mark(function)


def by_name(functions: Sequence[ToolFunction | Tool]) -> dict[str, Tool]:
    """The tools of `functions`. Raises ConfigurationError where two have one name."""
    found: dict[str, Tool] = {}
    for function in functions:
        made = Tool.of(function)
        if made.name in found:
            raise ConfigurationError(f"two tools are called {made.name}: rename one with @tool(name=…)")
        found[made.name] = made
    return found

"""A tool: a Python function with a description for the model.

    @tool(timeout=5)
    async def weather(city: str, days: int = 1) -> str:
        '''Tell the weather.

        Args:
            city: Where.
            days: For how many days.
        '''

A plain function is a tool too. The decorator only sets options. A parameter annotated with `ToolContext` gets
one, and is hidden from the model. The return value becomes the result: text unchanged, any other value as
JSON (models, dataclasses, tuples, sets, dates, decimals, UUIDs, paths and enums too). If a plain function
returns a coroutine, it is awaited. A `functools.partial` is a tool whose bound arguments are hidden from the
model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args, overload

from turnstream.core.admission import repair_text
from turnstream.errors import ConfigurationError
from turnstream.tools.schema import Arguments, describe, unbound
from turnstream.wires.base import ToolDefinition

ToolFunction: TypeAlias = Callable[..., Any]
Function = TypeVar("Function", bound=ToolFunction)
Prepare: TypeAlias = "Callable[[ToolContext], Any]"
AskWord: TypeAlias = Literal["never", "first", "always"]
AskRule: TypeAlias = AskWord | Callable[[dict[str, Any]], bool | Awaitable[bool]]
"""When a call needs an approval before it runs.

`never`. `first`: unless a call of the tool was approved in the chat before. `always`. A function, sync or
async: if it returns True for the call's arguments, which are a dict.
"""

PROGRESS_LIMIT = 4096
"""Characters of one piece of progress. The rest is cut off."""
_OPTIONS = "__turnstream_tool__"


class ToolError(Exception):
    """Raise it in a tool to send its message to the model.

    Of any other exception the model gets only the type, unless details are shown (`server.debug`).
    """


class ToolOutput(NamedTuple):
    """Result of a call, as the model gets it."""

    text: str
    is_error: bool = False


class ToolContext:
    """The call that a tool runs for.

    Args:
        tool_use_id: Id of the call.
        turn_id: Id of the turn.
        owner: Owner of the turn, from the host application.
        metadata: Metadata of the turn, from the host application.
        show: Publishes a piece of progress of a call.

    `prepared` is the result of the tool's `prepare`. It is None if there is none, or if it failed or was not
    called. `key` names the call among the calls of all turns, and is the same if the call is run again after
    a crash. A service that takes idempotency keys takes it.
    """

    __slots__ = ("_show", "key", "metadata", "owner", "prepared", "tool_use_id", "turn_id")

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
        self.key = f"{turn_id}-{tool_use_id}"
        self.prepared: Any = None
        self._show = show

    def progress(self, text: str) -> None:
        """Show watchers a piece of the tool's output while it runs. May be called from any thread."""
        self._show(self.tool_use_id, repair_text(text[:PROGRESS_LIMIT]))


class ToolOptions(NamedTuple):
    """Options of `tool`."""

    name: str | None = None
    description: str | None = None
    timeout: float | None = None
    idempotent: bool = False
    prepare: Prepare | None = None
    ask: AskRule = "never"


class Tool(NamedTuple):
    """A function with its description for the model. `context` is the parameter that gets the ToolContext."""

    definition: ToolDefinition
    function: ToolFunction
    arguments: Arguments
    context: str | None = None
    timeout: float | None = None
    idempotent: bool = False
    prepare: Prepare | None = None
    ask: AskRule = "never"

    @property
    def name(self) -> str:
        """Name by which the model calls the tool."""
        return self.definition.name

    @classmethod
    def of(cls, function: ToolFunction | Tool) -> Tool:
        """Return the tool for a function. Raises ConfigurationError if a model could not call it."""
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
            checked_rule(options.ask, found.definition.name),
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
    ask: AskRule = "never",
) -> Callable[[Function], Function]: ...
def tool(function: ToolFunction | None = None, /, **options: Any) -> Any:
    """Mark a function as a tool, and set its options.

    Args:
        function: The function.
        name: Name for the model. None: that of the function.
        description: Description for the model. None: from the docstring.
        timeout: Seconds that a call may take. None: the engine's limit.
        idempotent: True if it is harmless to run the tool and discard its result. It then starts as soon as
            its arguments are complete. Other tools wait until the model's answer is complete.
        prepare: Called with the ToolContext as soon as the model begins the call, before any argument is
            known. It may open a connection or load a table. The tool finds the return value in
            `context.prepared`.
        ask: When a call needs an approval before it runs: `never`, `first` (until one call of the tool was
            approved in the chat), `always`, or a function of the arguments (a dict) that returns True. If the
            function fails, the call needs an approval. Such a tool never starts early.

    `prepare` may take as long as the tool. If it fails, the tool runs without its value. If the call is not
    run, `prepare` is cancelled or its value is discarded. So it should change nothing, and return nothing
    that must be closed.
    """

    def mark(marked: ToolFunction) -> ToolFunction:
        setattr(marked, _OPTIONS, ToolOptions(**options))
        return marked

    return mark if function is None else mark(function)


def checked_rule(rule: AskRule, name: str) -> AskRule:
    """Return the rule of the tool `name`. Raises ConfigurationError if it is not a rule."""
    if callable(rule) or rule in get_args(AskWord):
        return rule
    raise ConfigurationError(
        f"the tool {name} cannot ask {rule!r}: write never, first, always, or give a function"
    )


def with_rules(tools: Mapping[str, Tool], rules: Mapping[str, AskRule]) -> dict[str, Tool]:
    """Return the tools, with the rules that `rules` gives by name."""
    return {
        name: made._replace(ask=checked_rule(rules[name], name)) if name in rules else made
        for name, made in tools.items()
    }


def by_name(functions: Sequence[ToolFunction | Tool]) -> dict[str, Tool]:
    """Return the tools of `functions` by name. Raises ConfigurationError if two have the same name."""
    found: dict[str, Tool] = {}
    for function in functions:
        made = Tool.of(function)
        if made.name in found:
            raise ConfigurationError(f"two tools are called {made.name}: rename one with @tool(name=…)")
        found[made.name] = made
    return found

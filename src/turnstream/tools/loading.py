"""Tools that the settings name as `module:function`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from turnstream.config import ToolSettings
from turnstream.config.functions import load_function
from turnstream.errors import ConfigurationError
from turnstream.tools.base import Tool, ToolFunction, by_name, with_rules
from turnstream.tools.builtin import calculator, clock
from turnstream.tools.runner import ToolLimits, ToolRunner


def configured_tools(
    settings: ToolSettings,
    given: Sequence[ToolFunction | Tool] | ToolRunner | None = None,
    *,
    debug: bool = False,
) -> ToolRunner:
    """Return a runner with the tools, the limits and the approval rules of the settings.

    Raises ConfigurationError.

    Args:
        given: Tools in place of those of the settings. The rules of the settings apply to them too, except to
            those of a ToolRunner.
    """
    if isinstance(given, ToolRunner):
        return given
    functions = list(given) if given is not None else load_functions(settings.functions)
    if settings.builtin and given is None:
        functions += [calculator, clock]
    known = by_name(functions)
    if unknown := settings.ask.keys() - known.keys():
        raise ConfigurationError(
            f"tools.ask names tools that are not here: {', '.join(sorted(unknown))}; "
            f"there are: {', '.join(known) or 'none'}"
        )
    return ToolRunner(with_rules(known, settings.ask), limits_of(settings), debug=debug)


def limits_of(settings: ToolSettings) -> ToolLimits:
    """Return the limits of the settings."""
    return ToolLimits(
        settings.timeout,
        settings.parallel,
        settings.soft_rounds,
        settings.rounds,
        settings.approval_timeout,
    )


def load_functions(names: Iterable[str]) -> list[Any]:
    """Return the functions of `names`, each `package.module:function`. Raises ConfigurationError."""
    return [load_function(name, "the tool") for name in names]

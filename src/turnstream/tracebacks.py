"""Tracebacks of the errors that callers of the library and of the clients get.

A traceback shows the caller's lines and one line of turnstream. With the logger `turnstream` at level DEBUG,
it shows all lines.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from turnstream.errors import TurnstreamError

Class = TypeVar("Class", bound=type[Any])

MAX_CAUSES = 20
"""Causes of an error whose tracebacks are shortened."""
_INNER = frozenset({"aiohttp", "aiohappyeyeballs", "asyncio", "concurrent", "contextlib"})
"""Packages whose lines are left out, like turnstream's. Lines of a caller's callback stay."""
_SPECIAL = frozenset({"__init__", "__enter__", "__aenter__"})

logger = logging.getLogger("turnstream")


def shorten(error: BaseException) -> None:
    """Remove the inner lines from the traceback of an error and from those of its causes.

    One line of turnstream stays: the outermost. Other errors than a TurnstreamError keep all lines, except
    for those of this module. Call it before a bare `raise`, which adds no line.
    """
    if logger.isEnabledFor(logging.DEBUG):
        return
    if not isinstance(error, TurnstreamError):
        error.__traceback__ = _outer_lines(error.__traceback__, own=sys.maxsize, inner=frozenset())
        return
    error.__traceback__ = _outer_lines(error.__traceback__, own=1)
    cause = error
    for _ in range(MAX_CAUSES):
        following = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        if following is None:
            break
        cause = following
        cause.__traceback__ = _outer_lines(cause.__traceback__, own=0)


def _outer_lines(
    trace: TracebackType | None, *, own: int, inner: frozenset[str] = _INNER
) -> TracebackType | None:
    """Return a traceback without `inner` packages, and with only the first `own` lines of turnstream."""
    lines: list[TracebackType] = []
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        package = module.partition(".")[0]
        if package == "turnstream":
            if own and module != __name__:
                lines.append(trace)
                own -= 1
        elif package not in inner:
            lines.append(trace)
        trace = trace.tb_next
    shortened: TracebackType | None = None
    for line in reversed(lines):
        shortened = TracebackType(shortened, line.tb_frame, line.tb_lasti, line.tb_lineno)
    return shortened


def short_tracebacks(boundary: Class) -> Class:
    """Shorten the tracebacks of the errors that the public methods of a class raise. A class decorator.

    Generators and properties are not decorated. They call `shorten` themselves.
    """
    for name, value in list(vars(boundary).items()):
        generates = inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value)
        is_public = not name.startswith("_") or name in _SPECIAL
        if inspect.isfunction(value) and is_public and not generates:
            setattr(boundary, name, _shortening(value))
    return boundary


def _shortening(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):
        waits: Callable[..., Any] = function

        @functools.wraps(function)
        async def wait(*given: Any, **options: Any) -> Any:
            try:
                return await waits(*given, **options)
            except Exception as error:
                shorten(error)
                raise

        return wait

    @functools.wraps(function)
    def call(*given: Any, **options: Any) -> Any:
        try:
            return function(*given, **options)
        except Exception as error:
            shorten(error)
            raise

    return call

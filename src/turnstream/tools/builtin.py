"""Two harmless tools for first experiments: a calculator and a clock."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from turnstream.tools.base import ToolError, tool

MAX_EXPRESSION = 500
"""Characters that an expression may have."""
MAX_NESTING = 50
"""Parentheses that may be open at a time. The parser's work may grow with them."""
MAX_BITS = 4096
"""Bits of an integer at any step. 9**9**9 would fill the memory, and block the interpreter meanwhile."""
MAX_DIGITS = 1000
"""Digits to which `round` rounds, before or after the point. 10**MAX_DIGITS has fewer than MAX_BITS bits."""
MAX_ZONE = 100
"""Characters that the name of a time zone may have."""


def _rounded(value: float, digits: float | None = None) -> int | float:
    if digits is None:
        return round(value)
    if not isinstance(digits, int) or abs(digits) > MAX_DIGITS:
        raise ValueError(f"round takes a whole number of digits, {MAX_DIGITS} at most")
    return round(value, digits)


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: lambda left, right: left % right,
    ast.Pow: lambda left, right: left**right,
}
_UNARY: dict[type, Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(math, name)
    for name in ("sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "log10", "floor", "ceil")
} | {"abs": abs, "round": _rounded, "min": min, "max": max}
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
_TOKEN = re.compile(
    r"[0-9][0-9_]*\.?[0-9_]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|[a-z][a-z0-9]*|[-+*/%(),]|\s+"
)


@tool(idempotent=True)
def calculator(expression: Annotated[str, Field(examples=["(1 + 2) * 3", "sqrt(2)"])]) -> str:
    """Work out an arithmetic expression.

    Args:
        expression: Numbers, + - * / // % **, parentheses, pi, e, and functions such as sqrt, sin, log, round,
            min, max.
    """
    if len(expression) > MAX_EXPRESSION:
        raise ToolError(f"the expression is longer than {MAX_EXPRESSION} characters")
    try:
        return str(_value(_parsed(" ".join(expression.split()))))
    except SyntaxError as error:
        raise ToolError(f"cannot work out {expression}: {error.msg}") from error
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ToolError(f"cannot work out {expression}: {error}") from error


@tool(idempotent=True)
def clock(time_zone: Annotated[str, Field(max_length=MAX_ZONE)] = "UTC") -> str:
    """Tell the date and the time.

    Args:
        time_zone: A name such as Europe/Vienna.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolError(
            f"the time zone {time_zone[:80]!r} is unknown: give a name such as Europe/Vienna"
        ) from None
    return datetime.now(zone).isoformat(timespec="seconds")


def _parsed(expression: str) -> ast.expr:
    """Return the syntax tree of an expression. Raises ValueError if it is not arithmetic, and SyntaxError.

    The parser sees only words of arithmetic, to a bounded depth, so its work is bounded too.
    """
    place = depth = 0
    while place < len(expression):
        token = _TOKEN.match(expression, place)
        word = token[0] if token else expression[place]
        if token is None or (word[0].isalpha() and word not in _FUNCTIONS and word not in _CONSTANTS):
            raise ValueError(f"{word} is not arithmetic")
        depth += (word == "(") - (word == ")")
        if depth > MAX_NESTING:
            raise ValueError(f"more than {MAX_NESTING} parentheses are open at a time")
        place = token.end()
    return ast.parse(expression, mode="eval").body


def _value(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _combined(op, _value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*(_value(argument) for argument in arguments)))
        case _:
            raise ValueError(f"{ast.unparse(node)} is not arithmetic")


def _combined(op: ast.operator, left: float, right: float) -> int | float:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        if isinstance(op, ast.Pow):
            bits = left.bit_length() * abs(right)
        if bits > MAX_BITS:
            raise ValueError("the numbers get too large")
    result = _BINARY[type(op)](left, right)
    if isinstance(result, complex):
        raise ValueError("the result is not a real number")
    return _bounded(result)


def _bounded(value: float) -> int | float:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError("the numbers get too large")
    return value

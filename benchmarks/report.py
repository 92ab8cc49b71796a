"""The table: each measured number, its goal, and the distance between them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

ACCEPTABLE = 3.0
"""Multiple of the goal up to which a number is not a failure."""


class Line(NamedTuple):
    """One number. `goal` None: for comparison only. `wanted`: whether less or more than the goal is good."""

    what: str
    measured: float
    unit: str
    goal: float | None = None
    wanted: Literal["less", "more"] = "less"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Factor by which the value misses its goal. Up to 1, the goal is reached."""
        if self.goal is None:
            return None
        worse, better = (self.measured, self.goal) if self.wanted == "less" else (self.goal, self.measured)
        return worse / better if better > 0 else float("inf")

    @property
    def verdict(self) -> str:
        ratio = self.ratio
        if ratio is None:
            return ""
        if ratio <= 1:
            return "reached"
        return f"within {ACCEPTABLE:g}x" if ratio <= ACCEPTABLE else "MISSED"


def number(value: float) -> str:
    """Return three significant digits, or all digits of a large number. NaN: the system is absent."""
    if math.isnan(value):
        return "absent"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


HEADER = f"{'':<58} {'measured':>12} {'unit':<10} {'goal':>11} {'ratio':>6}  verdict"


def format_line(line: Line) -> str:
    goal = "" if line.goal is None else f"{'≤' if line.wanted == 'less' else '≥'} {number(line.goal)}"
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    text = f"{line.what:<58} {number(line.measured):>12} {line.unit:<10} {goal:>11} {ratio:>6}  {line.verdict:<9}"
    return f"{text} {line.note}".rstrip()


def print_lines(title: str, lines: Iterable[Line]) -> None:
    """Print one benchmark's lines as they come."""
    print(f"\n{title}")
    print(HEADER)
    for line in lines:
        print(format_line(line), flush=True)


def print_summary(lines: list[Line]) -> None:
    """Print how many goals were reached."""
    counts: dict[str, int] = {}
    for line in lines:
        if line.goal is not None:
            counts[line.verdict] = counts.get(line.verdict, 0) + 1
    print(
        f"\n{sum(counts.values())} goals: " + ", ".join(f"{count} {name}" for name, count in counts.items())
    )

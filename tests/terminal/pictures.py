"""Pictures of a window as text: its characters, and the style of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.segment import Segment
from rich.style import Style

from tests.terminal.windows import Window

FOLDER = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (200, 60))
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
_HEAD = "=== "


def picture(shown: Window) -> str:
    """Return the screen: first its lines, then the lines' styles, then the meaning of each style's name."""
    names: dict[str, str] = {}
    lines, styles = [], []
    for row in shown.rows():
        text = "".join(segment.text for segment in row)
        lines.append(f"|{_TIME.sub('2026-01-02 03:04', text).rstrip()}")
        styles.append(_styles_of(row, names))
    legend = [f"{name} = {style}" for style, name in names.items()]
    width, height = shown.app.size
    return "\n".join([f"{_HEAD}{width}x{height}", *lines, "", *_without_repeats(styles), "", *legend, ""])


def _styles_of(row: Sequence[Segment], names: dict[str, str]) -> str:
    """Return the styles of a line: the name of each, and its number of columns."""
    found: list[str] = []
    for style, segments in groupby(row, lambda segment: _words(segment.style)):
        name = names.setdefault(style, _name(len(names)))
        found.append(f"{name}{sum(segment.cell_length for segment in segments)}")
    return " ".join(found)


def _words(style: Style | None) -> str:
    """Return a style in words, without the ids of links and widgets, which differ in each run."""
    return "none" if style is None else str(style.clear_meta_and_links())


def _name(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else f"{_name(place // 26 - 1)}{_name(place % 26)}"


def _without_repeats(styles: Sequence[str]) -> list[str]:
    lines, first = [], 0
    for style, group in groupby(styles):
        last = first + len(list(group)) - 1
        lines.append(f"{first}: {style}" if first == last else f"{first}-{last}: {style}")
        first = last + 1
    return lines


def stored(state: str) -> dict[tuple[int, int], str]:
    """Return the stored pictures of a state, by the size of the window."""
    path = FOLDER / f"{state}.txt"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = {part.split("\n", 1)[0]: f"{_HEAD}{part}" for part in text.split(_HEAD) if part}
    return {size: parts.get(f"{size[0]}x{size[1]}", "") for size in SIZES}


def store(state: str, pictures: Sequence[str]) -> None:
    """Replace the stored pictures of a state."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{state}.txt").write_text("".join(pictures), encoding="utf-8")

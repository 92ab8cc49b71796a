"""The pages of the documentation in parts: programs and their shown output, settings, commands, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"
DOCS = PROJECT / "docs"
TUTORIAL = DOCS / "tutorial"
HOW_TO = DOCS / "how-to"
SNIPPETS = frozenset(
    {
        "change-the-base-url.md",
        "chat-in-the-terminal.md",
        "foreign-streams.md",
        "proxies.md",
        "run-on-many-nodes.md",
        "sse-clients.md",
        "test-your-application.md",
        "trace-with-opentelemetry.md",
        "use-assistant-ui.md",
        "use-chat.md",
        "use-it-in-scripts.md",
        "use-postgresql.md",
    }
)
"""Pages without Python, and pages whose Python is part of a larger program with tests of its own."""
ANYTHING = "…"
"""A line `...` matches any lines. At the end of a line it matches any words."""

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Fence(NamedTuple):
    """A block between ``` of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


class Program(NamedTuple):
    """A Python program, and its shown output or None."""

    source: Fence
    output: str | None


def pages() -> list[Path]:
    """All pages for readers."""
    return sorted([*PROJECT.glob("*.md"), *DOCS.rglob("*.md")])


def fences(page: Path, language: str | None = None) -> list[Fence]:
    text = page.read_text(encoding="utf-8")
    found = [
        Fence(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]
    return [fence for fence in found if language in (None, fence.language)]


def programs(page: Path) -> list[Program]:
    """Return the page's programs. A `text` block after a program is its output."""
    found = fences(page)
    after = [fence.text if fence.language == "text" else None for fence in found[1:]]
    return [
        Program(fence, output)
        for fence, output in zip(found, [*after, None], strict=False)
        if fence.language == "python"
    ]


def is_application(program: Program) -> bool:
    """Return True if the program defines an application to serve, and does nothing by itself."""
    return "FastAPI(" in program.source.text


def fits(shown: str, printed: str) -> bool:
    """Return True if `printed` is the output that a page shows."""
    lines = [_of_line(line) for line in shown.splitlines()]
    return re.fullmatch("".join(lines), printed if printed.endswith("\n") else f"{printed}\n") is not None


def _of_line(line: str) -> str:
    if line == ANYTHING:
        return "(?:.*\n)*?"
    if line.endswith(ANYTHING):
        return re.escape(line.removesuffix(ANYTHING)) + ".*\n"
    return re.escape(line) + "\n"


def links(page: Path) -> list[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in _LINK.findall(text) if not link.startswith(("http://", "https://"))]


def anchors(page: Path) -> set[str]:
    """Return the targets of links in a page. Headings are named like the host of the pages names them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    plain = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in _HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}

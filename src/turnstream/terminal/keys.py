"""The keys of the window."""

from __future__ import annotations

from typing import NamedTuple


class WindowKey(NamedTuple):
    """A key of the window.

    Args:
        keys: Textual's names of the keys.
        shown: The key as users know it.
        hidden: True if the palette does not list it.
    """

    keys: str
    action: str
    shown: str
    summary: str
    hidden: bool = False


KEYS = (
    WindowKey("escape", "stop", "Esc", "Stop the answer"),
    WindowKey("ctrl+c", "stop_or_leave", "Ctrl+C", "Stop the answer; twice: close", hidden=True),
    WindowKey("ctrl+r", "regenerate", "Ctrl+R", "Ask for another answer"),
    WindowKey("alt+left,ctrl+left_square_bracket", "branch(-1)", "Alt+←", "Show the branch before (‹)"),
    WindowKey("alt+right,ctrl+right_square_bracket", "branch(1)", "Alt+→", "Show the next branch (›)"),
    WindowKey("ctrl+n", "new_chat", "Ctrl+N", "Begin a new chat"),
    WindowKey("ctrl+s", "chats", "Ctrl+S", "Search and open chats"),
    WindowKey("ctrl+t", "thinking", "Ctrl+T", "Open or fold the thinking"),
    WindowKey("ctrl+o", "copy_answer", "Ctrl+O", "Copy the last answer"),
    WindowKey("ctrl+y", "approve(True)", "Ctrl+Y", "Approve the tool call"),
    WindowKey("ctrl+x", "approve(False)", "Ctrl+X", "Deny the tool call"),
    WindowKey("pageup", "scroll('page_up')", "PgUp", "Scroll a page up", hidden=True),
    WindowKey("pagedown", "scroll('page_down')", "PgDn", "Scroll a page down", hidden=True),
    WindowKey("ctrl+up", "scroll('up')", "Ctrl+↑", "Scroll a line up", hidden=True),
    WindowKey("ctrl+down", "scroll('down')", "Ctrl+↓", "Scroll a line down", hidden=True),
    WindowKey("ctrl+home", "scroll('home')", "Ctrl+Home", "Scroll to the beginning", hidden=True),
    WindowKey("ctrl+end", "scroll('end')", "Ctrl+End", "Scroll to the end", hidden=True),
    WindowKey("f1", "help", "F1", "Show the keys and the commands"),
)

PROMPT_KEYS = (
    ("Enter", "Send"),
    ("Ctrl+J", "Begin a new line"),
    ("↑", "Edit the last question, if the prompt is empty"),
    ("Tab, ↑, ↓", "Choose a completion of a command"),
    ("Home, End", "Scroll to the beginning or the end, if the prompt is empty"),
    ("Ctrl+P", "Open the palette of commands"),
    ("Ctrl+Q", "Close the window; a running answer continues"),
)
"""Keys that the prompt and Textual handle, and their summaries."""

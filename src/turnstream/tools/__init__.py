"""Tools: Python functions that a model may call."""

from turnstream.tools.base import Tool, ToolContext, ToolError, ToolOutput, tool
from turnstream.tools.runner import ToolLimits, ToolRunner

__all__ = ["Tool", "ToolContext", "ToolError", "ToolLimits", "ToolOutput", "ToolRunner", "tool"]

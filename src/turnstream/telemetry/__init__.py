"""Logging, and the measures behind the metrics."""

from turnstream.telemetry.logs import (
    MASK,
    SHORTEST_SECRET,
    JsonFormatter,
    MaskingFormatter,
    TurnFields,
    configure_logging,
    one_line,
    turn_context,
)

__all__ = [
    "MASK",
    "SHORTEST_SECRET",
    "JsonFormatter",
    "MaskingFormatter",
    "TurnFields",
    "configure_logging",
    "one_line",
    "turn_context",
]

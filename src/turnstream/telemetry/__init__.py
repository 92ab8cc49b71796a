"""What an operator sees of the system: its log, and the measures behind its metrics."""

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

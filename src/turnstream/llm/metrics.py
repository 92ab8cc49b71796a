"""Times and counts of a stream."""

from __future__ import annotations

from typing import NamedTuple


class StreamMetrics(NamedTuple):
    """Times and counts of a stream.

    Attributes:
        started_at: Seconds since the epoch.
        first_output: Seconds from the start to the first output. None before it.
        duration: Seconds from the start to the end, or until now.
        characters: Characters of the text.
    """

    started_at: float
    first_output: float | None
    duration: float
    events: int
    characters: int
    steps: int

    @property
    def characters_per_second(self) -> float:
        """Characters of text per second, from the first output on."""
        seconds = self.duration - (self.first_output or 0.0)
        return self.characters / seconds if seconds > 0 else 0.0

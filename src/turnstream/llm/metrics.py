"""How a stream went, in numbers."""

from __future__ import annotations

from typing import NamedTuple


class StreamMetrics(NamedTuple):
    """How a stream went. `started_at`: seconds since 1970; `first_output`, `duration`: seconds since then; `first_output` None
    before there was any. `characters`: of the text."""

    started_at: float
    first_output: float | None
    duration: float
    events: int
    characters: int
    steps: int

    @property
    def characters_per_second(self) -> float:
        """From the first output on."""
        seconds = self.duration - (self.first_output or 0.0)
        return self.characters / seconds if seconds > 0 else 0.0

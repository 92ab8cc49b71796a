"""Options of the next question."""

from __future__ import annotations

from typing import Any, NamedTuple

from turnstream.client import QuestionOptions
from turnstream.client.questions import new_key


class Asking(NamedTuple):
    """Options of the next question. Those that are None are the server's, or those of the last answer."""

    model: str | None = None
    system: str | None = None
    params: dict[str, Any] | None = None
    tools: list[str] | None = None

    def options(self) -> QuestionOptions:
        """Return the options, and the key that makes the request safe to repeat."""
        return QuestionOptions(
            model=self.model,
            system=self.system,
            params=self.params,
            tools=self.tools,
            idempotency_key=new_key(),
        )

"""Names of models that stand in a request's path."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from turnstream.errors import InvalidRequest

WIRES_WITH_MODEL_PATHS = frozenset({"gemini", "bedrock"})
"""Wires that put the model's name into the path. The others send it in the body, where any text will do."""

_SLASHES = re.compile(r"[/\\]")
_MOST_DECODED = 3
"""Times that servers on the way may undo the quoting of a path."""


def check_model_path(model: str) -> None:
    """Raise InvalidRequest for a name that could lead out of the base URL: with an empty part, `.` or `..` between slashes,
    quoted or not. Other characters are quoted, and lead nowhere else."""
    name = model
    for _ in range(_MOST_DECODED):
        if any(part in ("", ".", "..") for part in _SLASHES.split(name)):
            raise InvalidRequest(
                f"{model[:200]!r} is not the name of a model: there is an empty part, . or .. between slashes"
            )
        name = unquote(name)


def model_path(model: str, *, safe: str) -> str:
    """Return the name as it stands in a path, all but letters, digits and `safe` quoted. Raises InvalidRequest."""
    check_model_path(model)
    return quote(model, safe=safe)

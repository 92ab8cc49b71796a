"""Puts model names into the path of a request."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from turnstream.errors import InvalidRequest

WIRES_WITH_MODEL_PATHS = frozenset({"gemini", "bedrock"})
"""Wires with the model's name in the path. The other wires send it in the body, where any text is safe."""

_SLASHES = re.compile(r"[/\\]")
_MOST_DECODED = 3
"""Times that servers on the way may decode a quoted path."""


def check_model_path(model: str) -> None:
    """Raise InvalidRequest for a name that could escape from the base URL.

    Such a name has an empty part, `.` or `..` between slashes, quoted or not. Other characters are quoted,
    and harmless.
    """
    name = model
    for _ in range(_MOST_DECODED):
        if any(part in ("", ".", "..") for part in _SLASHES.split(name)):
            raise InvalidRequest(
                f"{model[:200]!r} is not the name of a model: there is an empty part, . or .. between slashes"
            )
        name = unquote(name)


def model_path(model: str, *, safe: str) -> str:
    """Return the name for use in a path: all characters are quoted, except letters, digits and `safe`.

    Raises InvalidRequest.
    """
    check_model_path(model)
    return quote(model, safe=safe)

"""Where `turnstream ask` was last: so that `--continue` finds the turn to go on from.

One small file for all of them, `last-asked.json` in the user's state folder; and beside it the database of what was asked
without a server.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from turnstream.errors import InvalidRequest

MAX_PLACES = 100
"""Servers and databases that are remembered, those used last."""


class ConversationPlace(NamedTuple):
    """A conversation's last turn."""

    chat_id: str
    turn_id: str


def state_folder() -> Path:
    """`$XDG_STATE_HOME/turnstream`, else below the home folder."""
    home = os.environ.get("XDG_STATE_HOME", "").strip()
    return (Path(home) if home else Path.home() / ".local" / "state") / "turnstream"


def own_database() -> str:
    """The database of questions that are asked without a server, and without naming another."""
    return f"sqlite:///{state_folder() / 'asked.sqlite'}"


def recall(where: str) -> ConversationPlace:
    """The last turn that was asked for at `where`, a server's URL or a database's. Raises InvalidRequest."""
    place = _read().get(where)
    try:
        return ConversationPlace(str(place["chat_id"]), str(place["turn_id"]))  # type: ignore[index]
    except (TypeError, KeyError):
        raise InvalidRequest(f"nothing was asked yet at {where}: ask without --continue first") from None


def remember(where: str, place: ConversationPlace) -> None:
    """Raises OSError when the file cannot be written."""
    places = _read()
    places.pop(where, None)
    places[where] = {"chat_id": place.chat_id, "turn_id": place.turn_id}
    kept = dict(list(places.items())[-MAX_PLACES:])
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A file of its own that takes the old one's place: two that ask at once leave one of their two, and never half of it.
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="last-asked-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(kept), indent=2))
    Path(name).replace(_file())


def _file() -> Path:
    return state_folder() / "last-asked.json"


def _read() -> dict[str, Any]:
    try:
        return msgspec.json.decode(_file().read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}  # none yet, or none that can be read: it holds nothing that is not elsewhere too

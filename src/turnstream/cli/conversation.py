"""The last turn of `turnstream ask` at each server and database, from which `--continue` continues.

The user's state folder contains one file for all of them, `last-asked.json`, and the database for questions
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
"""Number of servers and databases that are remembered. The least recently used are dropped."""


class ConversationPlace(NamedTuple):
    """The last turn of a conversation."""

    chat_id: str
    turn_id: str


def state_folder() -> Path:
    """Return `$XDG_STATE_HOME/turnstream`, else `~/.local/state/turnstream`."""
    home = os.environ.get("XDG_STATE_HOME", "").strip()
    return (Path(home) if home else Path.home() / ".local" / "state") / "turnstream"


def own_database() -> str:
    """Return the URL of the default database for questions without a server."""
    return f"sqlite:///{state_folder() / 'asked.sqlite'}"


def recall(where: str) -> ConversationPlace:
    """Return the last turn at `where`, the URL of a server or a database.

    Raises InvalidRequest if no turn was asked for there.
    """
    place = _read().get(where)
    try:
        return ConversationPlace(str(place["chat_id"]), str(place["turn_id"]))  # type: ignore[index]
    except (TypeError, KeyError):
        raise InvalidRequest(f"no conversation is known at {where}: ask without --continue first") from None


def remember(where: str, place: ConversationPlace) -> None:
    """Store the last turn at `where`. Raises OSError if the file cannot be written."""
    places = _read()
    places.pop(where, None)
    places[where] = {"chat_id": place.chat_id, "turn_id": place.turn_id}
    kept = dict(list(places.items())[-MAX_PLACES:])
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A new file replaces the old one, so that concurrent writers never leave a partial file.
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
        return {}  # missing or not valid; the turns themselves are in the database

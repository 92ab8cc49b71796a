"""Ids of responses, conversations and items, derived from ids of turns and chats.

resp_<hex>        a turn of the assistant
conv_<hex>        a chat
msg_<hex>_<n>     an item of the turn <hex>: its output item, or its input item, number n
"""

from __future__ import annotations

import re
from uuid import UUID

from turnstream.core.identifiers import is_id
from turnstream.errors import NotFound

RESPONSE = "resp_"
CONVERSATION = "conv_"

_ITEM = re.compile(r"[a-z]+_([0-9a-f]{32})_([0-9]{1,9})", re.ASCII)


def response_id(turn_id: str) -> str:
    """Return the id of a turn for clients."""
    return RESPONSE + turn_id.replace("-", "")


def conversation_id(chat_id: str) -> str:
    """Return the id of a chat for clients."""
    return CONVERSATION + chat_id.replace("-", "")


def turn_of(identity: str) -> str:
    """Return the turn of a response's id. Raises NotFound."""
    return _parsed(identity, RESPONSE, "response")


def chat_of(identity: str) -> str:
    """Return the chat of a conversation's id. Raises NotFound."""
    return _parsed(identity, CONVERSATION, "conversation")


def item_id(kind: str, turn_id: str, number: int) -> str:
    """Return the id of an item of a turn.

    Args:
        kind: Prefix of ids of such items, such as `msg`.
        turn_id: The turn.
        number: Number of the item in the turn.
    """
    return f"{kind}_{turn_id.replace('-', '')}_{number}"


def turn_of_item(identity: str) -> str | None:
    """Return the turn of an item's id, or None if the id does not name a turn."""
    match = _ITEM.fullmatch(identity)
    return None if match is None else _as_id(match[1])


def _parsed(identity: str, prefix: str, what: str) -> str:
    found = _as_id(identity.removeprefix(prefix)) if identity.startswith(prefix) else None
    if found is None:
        raise NotFound(f"no such {what}")
    return found


def _as_id(digits: str) -> str | None:
    if len(digits) != 32 or not re.fullmatch("[0-9a-f]{32}", digits, re.ASCII):
        return None
    identity = str(UUID(digits))
    return identity if is_id(identity) else None

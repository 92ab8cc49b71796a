"""Limits on everything that comes in from outside, in one place.

Every entrance takes its limits from here: routes, protocols of other systems, arguments of the library.
`LIMITS` has their names in docs/reference/limits.md, and a test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NESTING_LIMIT: Final = 100
"""Levels of objects and arrays that a JSON value may have, the outermost included."""
MAX_METADATA: Final = 16 * 1024
"""Bytes of JSON metadata that a caller may attach to a chat or a turn."""
MAX_TITLE: Final = 500
"""Characters of a chat's title."""
MAX_BLOCKS: Final = 1000
"""Largest number of blocks of a user turn."""
LONGEST_URL: Final = 8192
"""Characters of the address of an image or a document."""
LONGEST_TITLE: Final = 500
"""Characters of a document's title."""
MAX_MODEL: Final = 300
"""Characters of the name of a model."""
MAX_TOOLS: Final = 128
"""Tools of a turn."""
MAX_FALLBACKS: Final = 8
"""Models that a turn may fall back to."""
MIN_ALTERNATIVES: Final = 2
MAX_ALTERNATIVES: Final = 4
"""Answers that one request may start at once."""
MAX_KEY: Final = 255
"""Characters of an `Idempotency-Key`."""
CLIENT_ID_LENGTH: Final = 255
"""Characters that a client's own id of a chat, a message or a run may have."""
MAX_REASON: Final = 2000
"""Characters of the reason of an approval."""
MAX_PAGE: Final = 200
"""Largest number of chats or turns in one page."""
MAX_SEARCH: Final = 200
"""Characters of a text to search for in chats."""
MAX_STATISTICS_DAYS: Final = 366
"""Days of one range of statistics."""
MAX_MESSAGES: Final = 10_000
"""Messages of a conversation that a client resends."""
MAX_CHARACTERS: Final = 32 * 1024 * 1024
"""Characters of a conversation that a client resends."""
MAX_MESSAGE: Final = 1024 * 1024
"""Characters of a text of a client of the relay or the staged agent."""
MAX_AGENT_NAME: Final = 255
"""Characters of a name of a client of the staged agent: session, user, page, document, title."""
MAX_AGENT_ID: Final = 200
"""Characters of the id of a relay's agent."""
MAX_NEW_ITEMS: Final = 20
"""Items that a request may add to a conversation of Responses."""
MAX_REFERENCES: Final = 100
"""References to items in a request of Responses."""
MAX_LISTED_ITEMS: Final = 100
"""Items of a page of Responses."""
MAX_EVENTS_CURSOR: Final = 4096
"""Characters of a cursor of many turns."""

LIMITS: Mapping[str, int] = {
    "nesting of JSON": NESTING_LIMIT,
    "`metadata` of a chat or turn, as JSON": MAX_METADATA,
    "a chat's title": MAX_TITLE,
    "blocks of a turn": MAX_BLOCKS,
    "the address (`url`) of an image or document": LONGEST_URL,
    "a document's title": LONGEST_TITLE,
    "the name of a model": MAX_MODEL,
    "tools of a turn": MAX_TOOLS,
    "alternatives of a turn": MAX_ALTERNATIVES,
    "fallback models of a turn": MAX_FALLBACKS,
    "an `Idempotency-Key`": MAX_KEY,
    "a client's own id of a chat, a message or a run": CLIENT_ID_LENGTH,
    "the reason of an approval": MAX_REASON,
    "chats of a page": MAX_PAGE,
    "a text to search for in chats": MAX_SEARCH,
    "days of a range of statistics": MAX_STATISTICS_DAYS,
    "messages of a conversation that a client resends": MAX_MESSAGES,
    "characters of a conversation that a client resends": MAX_CHARACTERS,
    "characters of a message of the relay, or of a text of the staged agent": MAX_MESSAGE,
    "a name in the staged agent: of a session, user, page or document, or a title": MAX_AGENT_NAME,
    "the id of an agent of the relay": MAX_AGENT_ID,
    "items that a request adds to a conversation of Responses": MAX_NEW_ITEMS,
    "references to items in a request of Responses": MAX_REFERENCES,
    "items of a page of Responses": MAX_LISTED_ITEMS,
    "a cursor of many turns": MAX_EVENTS_CURSOR,
}
"""The limits by their names in the documentation."""

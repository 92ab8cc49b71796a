"""Rewrites ids of tool calls to the format that the next provider accepts.

A history may hold calls of several providers, and each provider has its own rules for ids. An id that breaks
the rule of the called provider is replaced, in the call and in its result. The new id depends only on the old
id, so that a longer history begins with the same bytes and the provider's prompt cache still matches. If that
id is taken already, another is derived.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from turnstream.core.blocks import Block, Message

_NOT_PLAIN = re.compile(r"[^a-zA-Z0-9_-]")
_DIGEST_LENGTH = 8


class IdRule(NamedTuple):
    """Format of call ids.

    Args:
        fits: Pattern that a whole id must match.
        length: Most characters of a generated id. Generated ids match `fits`.
        alphanumeric: True if generated ids have letters and digits only.
    """

    fits: re.Pattern[str]
    length: int
    alphanumeric: bool = False


WORDS_OF_64 = IdRule(re.compile(r"[a-zA-Z0-9_-]{1,64}"), 64)
"""Anthropic, which documents no length, and Bedrock."""
TEXTS_OF_64 = IdRule(re.compile(r".{1,64}", re.DOTALL), 64)
"""OpenAI Responses. Other servers with this API have ids with a colon."""
TEXTS_OF_40 = IdRule(re.compile(r".{1,40}", re.DOTALL), 40)
"""OpenAI Chat Completions."""
TEXTS_OF_40_OR_NONE = IdRule(re.compile(r".{0,40}|.*__thought__.*", re.DOTALL), 40)
"""Other servers with the Chat Completions API. Some have no ids. LiteLLM appends Gemini's signature to an id,
after `__thought__`, and needs it back. Longer ids than OpenAI accepts are replaced, because an OpenAI model
may have another name here."""
NINE_CHARACTERS = IdRule(re.compile(r"[a-zA-Z0-9]{9}"), 9, alphanumeric=True)
"""Mistral, and the chat templates of its models."""
ANY = IdRule(re.compile(r".+", re.DOTALL), 64)
"""Kimi: its chat template shows the model its own ids, `functions.NAME:0`."""


def with_fitting_ids(messages: Iterable[Message], rule: IdRule) -> tuple[Message, ...]:
    """Return the history with ids that follow `rule`. Calls that the provider's own tools
    ran keep their ids."""
    given = tuple(messages)
    blocks = [block for message in given for block in message.blocks if _has_id(block)]
    if all(rule.fits.fullmatch(_id_of(block)) for block in blocks if _is_clients(block)):
        return given
    names = _Names(rule, (_id_of(block) for block in blocks))
    return tuple(
        Message(message.role, tuple(names.renamed(block) for block in message.blocks)) for message in given
    )


class _Names:
    """Generates new ids while a history is read from its beginning."""

    def __init__(self, rule: IdRule, known: Iterable[str]) -> None:
        self._rule = rule
        self._used = {identity for identity in known if rule.fits.fullmatch(identity)}
        self._made: dict[str, str] = {}
        self._nameless = 0
        self._unanswered: deque[str] = deque()
        """Generated ids of calls without an id, whose results have no id either, in order."""

    def renamed(self, block: Block) -> Block:
        if not (_has_id(block) and _is_clients(block)):
            return block
        identity = _id_of(block)
        if identity:
            name = self._fitting(identity)
        elif block.block_type == "tool_result" and self._unanswered:
            name = self._unanswered.popleft()
        else:
            self._nameless += 1
            name = self._make(f"call_{self._nameless}")
            self._unanswered.append(name)
        content = {**(block.content or {}), "tool_use_id": name}
        return msgspec.structs.replace(block, content=content)

    def _fitting(self, identity: str) -> str:
        if self._rule.fits.fullmatch(identity):
            return identity
        if identity not in self._made:
            self._made[identity] = self._make(identity)
        return self._made[identity]

    def _make(self, identity: str) -> str:
        attempt = 0
        while (name := _made_of(identity, attempt, self._rule)) in self._used:
            attempt += 1
        self._used.add(name)
        return name


def _made_of(identity: str, attempt: int, rule: IdRule) -> str:
    digest = hashlib.sha256(f"{attempt} {identity}".encode("utf-8", "replace")).hexdigest()
    if rule.alphanumeric:
        return digest[: rule.length]
    stem = _NOT_PLAIN.sub("_", identity).lstrip("_-")[: rule.length - _DIGEST_LENGTH - 1]
    return f"{stem or 'call'}_{digest[:_DIGEST_LENGTH]}"


def _has_id(block: Block) -> bool:
    return block.block_type in ("tool_use", "tool_result")


def _is_clients(block: Block) -> bool:
    return not (block.content or {}).get("provider_executed")


def _id_of(block: Block) -> str:
    return str((block.content or {}).get("tool_use_id") or "")


def generated_id(seed: str, ordinal: int, prefix: str = "call_") -> str:
    """Return an id for a call to which the provider gave none. The id is the same at every decoding.

    Args:
        seed: Text that identifies the message.
        ordinal: Number of the call in the message.
        prefix: Beginning of the id.
    """
    return prefix + hashlib.sha256(f"{seed}:{ordinal}".encode("utf-8", "replace")).hexdigest()[:24]
